// The dynamic program of the outer problem: layers over kinds of groups, by estimates.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
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
    // By length: of inner stages, of the first, the last and the only one. Who shares is taken to
    // fit a place only where it fits all.
    std::array<std::vector<StageEstimate>, 4> estimates;
    const std::vector<StageEstimate>& At(StagePlace place) const {
      return estimates[(place.is_first ? 1 : 0) + (place.is_last ? 2 : 0)];
    }
  };
  // The first layers on some of the devices.
  struct State {
    double seconds = 0;
    double bottleneck_s = 0;
    double value = 0;   // by which states are compared
    uint64_t used = 0;  // devices, as bits
    int last_lead = -1;
    // Its last stage: on which kind, behind which of the states kept at the layer it begins with.
    const Kind* kind = nullptr;
    int begin = 0;
    size_t before = 0;
  };
  // The best states at a layer, one for each set of devices.
  class Beam {
   public:
    // Whether a state of that value would be kept.
    bool Wants(double value) const { return value < worst_; }
    void Offer(const State& state);
    std::vector<State> Sorted() &&;

   private:
    size_t Worst() const;

    std::vector<State> states_;
    double worst_ = std::numeric_limits<double>::infinity();  // once it is full
  };
  struct Members {
    int lead = 0;
    uint64_t bits = 0;
  };

  void MakeKinds(int max_group);
  std::vector<StageEstimate> Sketched(const std::vector<int>& group, StagePlace place) const;
  // The next devices of these types that are not used, in their order; nullopt when there are not
  // as many.
  std::optional<std::vector<int>> Devices(const std::vector<int>& types, uint64_t used) const;
  std::optional<Members> NextMembers(const std::vector<int>& types, uint64_t used) const;
  std::vector<double> Caps() const;
  std::vector<Cut> Program(double cap, size_t max_group) const;
  void Extend(const State& state, const Kind& kind, double cap, State next,
              std::vector<Beam>& beams) const;
  std::vector<Cut> CutsOf(const std::vector<std::vector<State>>& kept) const;
  bool stopped() const { return options_.stop != nullptr && *options_.stop; }

  const StageModel& model_;
  const StageSearchOptions& options_;
  StageSketch& sketch_;
  std::vector<int> types_;
  std::vector<std::vector<int>> devices_;  // by type, in the order of use
  std::vector<uint64_t> type_bits_;        // of these devices
  std::vector<double> hops_;               // from, to
  std::vector<Kind> kinds_;
};

}  // namespace thermocline::placement
