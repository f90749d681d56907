// A whole model as one stage whose neurons and heads several members hold, all in this process and
// on one thread: what leads and helpers compute, without links.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "tests/support/stage_chain.h"
#include "worker/assignment.h"
#include "worker/helper_stage.h"
#include "worker/stage.h"

namespace thermocline::testing {

struct SharedStageOptions {
  model::FfnModes modes = model::FfnMode::kDense;
  std::string sparsity_path;
  // members[m][layer]: the lead's neurons, then those of each helper.
  std::vector<std::vector<model::NeuronRange>> members;
  // KV heads by member, the lead's first; none: all of them are the lead's.
  std::vector<model::HeadRange> heads;
  int n_threads = 1;
  // As members hold their neurons.
  model::NeuronRows lead_rows = model::NeuronRows::kAsIs;
  model::NeuronRows helper_rows = model::NeuronRows::kAsIs;
  uint64_t graph_bytes = 0;  // of the lead, for graphs of steps
  // Of the lead, and of the helpers, instead of the CPU that they share.
  std::function<std::unique_ptr<kernels::Device>()> make_lead_device;
  std::function<std::unique_ptr<kernels::Device>()> make_helper_device;
};

// Fails the test when the model cannot be loaded.
class SharedStage {
 public:
  SharedStage(const std::string& path, const SharedStageOptions& options);
  ~SharedStage();

  // One step, which may be of several sequences.
  void Run(const proto::StepBatch& step);
  // What a step has left of a row.
  const std::vector<float>& LogitsAt(SeqId seq, int64_t position) const {
    return logits_.rows.at({seq, position});
  }
  // As StageChain.
  std::vector<std::vector<float>> Logits(SeqId seq, const std::vector<int32_t>& tokens,
                                         size_t chunk);
  worker::Stage& lead() { return *lead_; }
  worker::HelperStage& helper(size_t i) { return *helpers_[i]; }
  const worker::LoadedModel& model() const { return model_; }
  // Of all members together: they share a device.
  const kernels::Traffic& traffic() const { return device_->ops().traffic(); }

 private:
  class Exchange;

  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<kernels::Device> lead_device_, helper_device_;  // null: device_
  worker::LoadedModel model_;
  LogitsRecorder logits_;
  std::unique_ptr<worker::Stage> lead_;
  std::vector<std::unique_ptr<worker::HelperStage>> helpers_;
  std::unique_ptr<Exchange> exchange_;
};

}  // namespace thermocline::testing
