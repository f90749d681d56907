// What a stage would take, in microseconds: its layers taken as alike, and split by one fill. For
// searches that look at thousands of stages; those they choose are solved.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "placement/solver/stage_estimate.h"
#include "placement/solver/stage_search.h"

namespace thermocline::placement {

// Borrows the model. Not thread-safe: it remembers answers.
class StageSketch {
 public:
  explicit StageSketch(const StageModel& model);

  const StageModel& model() const { return model_; }
  // Of `group`, the lead first, with n_layers. `evenness` 0: so that a token is fast; 1: so that
  // nobody is busy for longer than the others; between: between. Infinite where it does not fit.
  StageEstimate Of(const std::vector<int>& group, int n_layers, StagePlace place, double evenness);

 private:
  // What a device does in a layer, and has room for.
  struct Device {
    bool can_lead = false;
    double fixed_s = 0;      // of a lead, for each layer
    double alone_s = 0;      // the whole layer, by itself
    double embed_s = 0;      // of the lead of the first stage
    double head_s = 0;       // of the last
    double alone_room = 0;   // bytes for neurons of a lead, with one layer
    double alone_layer = 0;  // less for each further one
    double lead_room = 0;    // the same with a helper
    double lead_layer = 0;   // less for each further layer
    double lead_helper = 0;  // and helper
    double embed_room = 0;   // less in the first stage
    double head_room = 0;    // and in the last
    double helper_room = 0;
    std::vector<double> seconds;      // of the hottest neurons, up to each of kPoints
    std::vector<SplitDevice> helped;  // by helper, as this device's
  };
  struct Member {
    int device = 0;
    double offset_s = 0;  // before its work, as the fill counts it
    double room = 0;      // bytes in each layer
    double done = 0;      // up to which point it is given neurons
    double work_s = 0;
  };

  void MeasureAlone(int d);
  void MeasureShared(int lead);
  void MeasureRoom(int lead, int helper);
  void AddSeconds();
  double RoomOf(const std::vector<int>& group, size_t member, int n_layers, StagePlace place) const;
  StageEstimate Alone(int d, int n_layers, StagePlace place) const;
  StageEstimate Shared(const std::vector<int>& group, int n_layers, StagePlace place,
                       double evenness) const;
  bool Fill(std::vector<Member>& members, double until_s) const;
  double BytesUpTo(double point) const;
  double SecondsUpTo(int d, double point) const;

  const StageModel& model_;
  std::vector<Device> devices_;
  std::vector<double> bytes_;  // of the hottest neurons of a shared layer, up to each of kPoints
  double alone_bytes_ = 0;     // of all neurons of a layer alone on its lead
  std::unordered_map<uint64_t, std::vector<std::pair<std::vector<int>, StageEstimate>>> known_;
};

}  // namespace thermocline::placement
