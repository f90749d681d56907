// The dynamic program of the outer problem: layers over kinds of groups, by estimates.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "placement/solver/stage_moves.h"
#include "placement/solver/stage_sketch.h"

namespace thermocline::placement {

// Borrows model, options and sketch. Thread-compatible.
class StageProgram {
 public:
  // Estimates all kinds of groups up to a size: by solves of a few layers, or where there are many
  // kinds by sketches.
  StageProgram(const StageModel& model, const StageSearchOptions& options, StageSketch& sketch,
               int max_group);

  // Stages of groups up to a size, for each cap on the bottleneck that is tried; those that there
  // are.
  std::vector<std::vector<Cut>> Run(size_t max_group) const;

 private:
  // A lead type and helper types, and what stages on it would need.
  struct Kind {
    std::vector<int> types;  // the lead's first, then rising
    std::vector<StageEstimate> estimates;
  };
  struct State {
    double seconds = 0;
    double bottleneck_s = 0;
    std::vector<int> used;  // devices by type
    int last_lead = -1;
    std::vector<std::pair<int, std::vector<int>>> stages;  // end, group
  };
  using States = std::map<std::vector<int>, State>;

  void MakeKinds(int max_group);
  std::vector<StageEstimate> Sketched(const std::vector<int>& group) const;
  std::optional<std::vector<int>> Devices(const std::vector<int>& group,
                                          std::vector<int> used) const;
  std::vector<double> Caps() const;
  std::vector<Cut> Program(double cap, size_t max_group) const;
  double Estimated(const State& state) const;
  std::vector<const State*> Best(const States& states) const;
  void Extend(int begin, const State& state, const Kind& kind, double cap,
              std::vector<States>& states) const;
  bool stopped() const { return options_.stop != nullptr && *options_.stop; }

  const StageModel& model_;
  const StageSearchOptions& options_;
  StageSketch& sketch_;
  std::vector<int> types_;
  std::vector<std::vector<int>> devices_;  // by type, in the order of use
  std::vector<Kind> kinds_;
};

}  // namespace thermocline::placement
