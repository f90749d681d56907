// What a plan is made from: the model's header, what is known of its neurons, and the cluster.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "placement/neuron_heat.h"
#include "placement/plan_tables.h"
#include "placement/planner.h"
#include "placement/profile.h"
#include "tools/plan/flags.h"
#include "worker/assignment.h"

namespace thermocline::tools {

struct PlanSources {
  worker::LoadedModel model;
  std::string fingerprint;
  std::vector<placement::NeuronHeat> heats;  // by layer
  std::string heat_source;                   // for people
  placement::ClusterProfile cluster;         // every pair linked
  placement::PlannerOptions options;
  std::optional<placement::PlanFile> given;  // a plan to judge

  placement::PlannerInputs inputs() const {
    return {model.config, model.weights, &model.sparsity, heats, cluster};
  }
};

// Reads headers and profiles, no weights. kInvalidArgument names a flag, a file that is none, or of
// another model.
Result<PlanSources> ReadPlanSources(const PlanFlags& flags);

}  // namespace thermocline::tools
