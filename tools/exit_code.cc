#include "tools/exit_code.h"

#include "tools/interrupt.h"

namespace thermocline::tools {

int ExitCodeOf(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      return 0;
    case StatusCode::kInvalidArgument:
    case StatusCode::kNotFound:
    case StatusCode::kDataLoss:
      return 2;
    case StatusCode::kAborted:
      return InterruptSignal() == 0 ? 1 : 128 + InterruptSignal();
    default:
      return 1;
  }
}

}  // namespace thermocline::tools
