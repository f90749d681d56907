// A plan file with the order in which its neurons are counted: complete without the profile that
// the order came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "base/units.h"
#include "model/config.h"
#include "model/neuron_order.h"
#include "placement/neuron_heat.h"
#include "placement/plan.h"

namespace thermocline::placement {

// Numbers of up to six digits with a comma each, of 126 layers of 53 248 neurons, are 47 MB: the
// largest dense model published.
inline constexpr size_t kMaxPlanFileBytes = 64 * kMiB;

// Neurons [begin, end) of the file, which follow one another in a table.
struct NeuronRun {
  int32_t begin = 0, end = 0;
  friend bool operator==(const NeuronRun&, const NeuronRun&) = default;
};

// What a plan file says of the neuron order, unchecked against a model.
struct PlanTables {
  std::vector<std::vector<NeuronRun>> layers;  // the most active first; none: it has no tables
  std::optional<uint64_t> order;               // OrderId of the order it was made with

  bool has_tables() const { return !layers.empty(); }
  friend bool operator==(const PlanTables&, const PlanTables&) = default;
};

struct PlanFile {
  Plan plan;
  PlanTables tables;
};

// Tells orders of `n_layer` layers apart; 0: that of the model file, however it is written down.
uint64_t OrderId(const model::NeuronOrder& order, int n_layer);
// "9f3c0a77d21b5e04", or "file" for 0, as plan files say it.
std::string OrderName(uint64_t id);
// Whether two tables of one layer are the same; none is the file's order.
bool AreEqualTables(std::span<const int32_t> a, std::span<const int32_t> b);

// Tables of every layer.
PlanTables TablesOf(const model::NeuronOrder& order, const model::ModelConfig& config);
// The order that the tables tell, of every layer; no layers without tables. kInvalidArgument names
// the first violated rule: a table for every layer, every neuron of a layer once, and the stated
// order that of the tables.
Result<model::NeuronOrder> OrderIn(const PlanTables& tables, const model::ModelConfig& config);
// "" unless the plan was made with another order than `now` and has no tables of its own; else what
// that means, for people.
std::string OrderNote(const PlanTables& tables, uint64_t now);

// Heats by place of `now`, in `next` instead. Layers whose order is the same stay as they are; the
// others lose what was measured of unions.
std::vector<NeuronHeat> HeatsInOrder(const std::vector<NeuronHeat>& heats,
                                     const model::NeuronOrder& now, const model::NeuronOrder& next);

// PlanToJson with the fields `neuron_order` and `neuron_tables`, one line per layer.
std::string PlanFileToJson(const Plan& plan, const PlanTables& tables,
                           PlanLink link = PlanLink::kWrite);
// PlanFromJson of a text that may have these fields; its codes.
Result<PlanFile> PlanFileFromJson(std::string_view text, const Plan& defaults = {},
                                  SaidOfLinks* said = nullptr);

}  // namespace thermocline::placement
