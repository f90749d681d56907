// How long each operator takes in a run, and what it reads: where the time of a step goes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kernels/traffic.h"
#include "worker/executor.h"

namespace thermocline::tools {

// The ops of one kind and first weight, of all layers together.
struct OpTime {
  std::string name;  // "matmul ffn_up", "attention": as `thermocline inspect` calls them
  int64_t n_calls = 0;
  double seconds = 0;
  uint64_t n_bytes = 0;  // weights, keys and values
  bool is_predictor = false;
};

// Takes the time from the end of one op to the end of the next. Step thread only.
class OpTimes final : public worker::OpObserver {
 public:
  // `traffic` is that of the device whose ops are watched, and outlives the use of this.
  void Watch(const kernels::Traffic* traffic) { traffic_ = traffic; }

  void OnRun() override;
  void OnOp(const worker::LoweredOp& op, TensorView input, TensorView output) override;

  // What was seen since the last Take, in the order in which ops were first seen.
  std::vector<OpTime> Take();

 private:
  OpTime& Of(const worker::LoweredOp& op);

  struct Entry {
    model::OpKind kind;
    model::WeightKey key;  // its layer is not used
    OpTime time;
  };
  SteadyClock clock_;
  const kernels::Traffic* traffic_ = nullptr;
  TimePoint last_{};
  uint64_t last_bytes_ = 0;
  std::vector<Entry> entries_;
};

// Adds the times of one repetition to those of the ones before.
void AddOpTimes(const std::vector<OpTime>& more, std::vector<OpTime>* sums);

}  // namespace thermocline::tools
