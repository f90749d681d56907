#include "proto/messages.h"

namespace thermocline::proto {

int64_t StepBatch::n_tokens() const {
  int64_t n = 0;
  for (const StepEntry& entry : entries) n += static_cast<int64_t>(entry.tokens.size());
  return n;
}

}  // namespace thermocline::proto
