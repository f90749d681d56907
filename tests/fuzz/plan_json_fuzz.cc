// Reads bytes as a plan written by hand; what is accepted must survive being written and read
// again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "placement/plan.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;  // NOLINT: a test program
  const auto plan = placement::PlanFromJson({reinterpret_cast<const char*>(data), size});
  if (!plan.ok()) return 0;
  const auto again = placement::PlanFromJson(placement::PlanToJson(*plan));
  CHECK(again.ok() && *again == *plan);
  return 0;
}
