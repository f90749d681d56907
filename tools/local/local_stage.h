// A whole model as one stage on this machine's CPU or a GPU: what programs without a cluster
// compute with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "kernels/device_choice.h"
#include "model/ffn_mode.h"
#include "placement/plan.h"
#include "proto/messages.h"
#include "worker/assignment.h"
#include "worker/logits_sink.h"
#include "worker/stage.h"

namespace thermocline::tools {

struct LocalStageOptions {
  kernels::DeviceChoice device{.kind = kernels::DeviceChoice::Kind::kCpu};
  int n_threads = 1;
  std::vector<int> cpus;                         // of the threads, as in CpuDeviceOptions
  model::FfnModes ffn = model::FfnMode::kDense;  // to choose from
  placement::KvBudget kv;  // n_pages: room for every position of every sequence
  int max_step_tokens = 256;
  bool uses_graphs = true;                 // of a GPU that can replay steps, unless ops are watched
  std::string logits_path;                 // "" = none
  worker::OpObserver* observer = nullptr;  // outlives the stage
};

// Pages of `page_tokens` positions for sequences of at most `n_positions` each.
int64_t PagesFor(int64_t n_sequences, int64_t n_positions, int page_tokens);

// Owns device and stage; the model outlives it. One thread.
class LocalStage {
 public:
  // Loads all layers. Errors as kernels::MakeDevice, MakeLogitsFile and worker::Stage::Create.
  static Result<std::unique_ptr<LocalStage>> Load(const worker::LoadedModel& model,
                                                  const LocalStageOptions& options,
                                                  const worker::LoadProgressFn& on_progress);
  // The same on a device that is there, whatever the options' choice.
  static Result<std::unique_ptr<LocalStage>> LoadOn(std::unique_ptr<kernels::Device> device,
                                                    const worker::LoadedModel& model,
                                                    const LocalStageOptions& options,
                                                    const worker::LoadProgressFn& on_progress);

  Status Run(const proto::StepBatch& batch) { return stage_->Run(batch, TensorView{}); }
  // Of the last Run.
  const std::vector<proto::StepResultEntry>& results() const { return stage_->results(); }

  // What the ops have read so far.
  const kernels::Traffic& traffic() const { return device_->ops().traffic(); }
  // Steps so far whose layers were one launch.
  int64_t n_replays() const;
  // What runs in the layers: "exact", "auto: exact 12 layers, dense 4 layers".
  std::string ffn_text() const { return stage_->FfnText(); }
  std::string device_name() const { return device_->name(); }
  kernels::Device& device() const { return *device_; }
  const std::string& load_note() const { return stage_->load_report().note; }
  bool keeps_logits() const { return logits_ != nullptr; }

 private:
  LocalStage() = default;

  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<worker::LogitsSink> logits_;
  std::unique_ptr<worker::Stage> stage_;
};

}  // namespace thermocline::tools
