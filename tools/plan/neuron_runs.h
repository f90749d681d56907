// Which neurons of which layers the members of a plan's stages hold, for people.
#pragma once

#include <string>
#include <vector>

#include "model/config.h"
#include "placement/planner.h"

namespace thermocline::tools {

// Neighbouring layers of a stage of which every member holds the same neurons.
struct NeuronRun {
  model::LayerRange layers;
  std::vector<placement::NeuronRange> held;  // by member, the lead first; empty: none
  // Of the neurons that are expected to be active in these layers, by member: 0 to 1.
  std::vector<double> active;
};

// In order; together all layers of the stage. `n_ff` neurons are a layer's.
std::vector<NeuronRun> NeuronRunsOf(const placement::StagePlan& stage,
                                    const placement::PlanForecast::Stage& forecast, int64_t n_ff);

// Of each stage with helpers a table, a row for each run and a column for each member, and the
// layers in which each helper takes part; of the others a line.
std::string NeuronRunsText(const placement::PlannedModel& planned, int64_t n_ff);

}  // namespace thermocline::tools
