// Reads bytes as a plan written by hand, with or without neuron tables; what is accepted must
// survive being written and read again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "placement/plan_tables.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;  // NOLINT: a test program
  const auto file = placement::PlanFileFromJson({reinterpret_cast<const char*>(data), size});
  if (!file.ok()) return 0;
  const auto again =
      placement::PlanFileFromJson(placement::PlanFileToJson(file->plan, file->tables));
  CHECK(again.ok() && again->plan == file->plan && again->tables.order == file->tables.order);
  // Neighbours may be written as one run, so tables are compared as the order they tell.
  model::ModelConfig config;
  config.n_layer = 2;
  config.n_ff = 8;
  const auto order = placement::OrderIn(file->tables, config);
  const auto order_again = placement::OrderIn(again->tables, config);
  CHECK(order.ok() == order_again.ok());
  if (!order.ok()) return 0;
  CHECK(order->layers == order_again->layers);
  for (const auto& layer : order->layers) CHECK(layer.size() == 8);
  return 0;
}
