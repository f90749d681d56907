// A decode step whose ops are launched one by one against the same step replayed as a CUDA graph,
// in a stage that holds the whole model; and whether both choose the same tokens.
//
//   graph_step MODEL [DEVICE [SEQUENCES...]]      default: cuda 1
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/str.h"
#include "tests/bench/bench_device.h"
#include "tests/bench/median.h"
#include "worker/assignment.h"
#include "worker/probe/op_warmup.h"
#include "worker/stage.h"

namespace thermocline::bench {
namespace {

// Some that come before a graph, then those that are timed, within one bucket of contexts.
constexpr int kMostWarmUpSteps = 16, kMostSteps = 128;
constexpr int kPrompt = 4;

struct Options {
  std::string model_path;
  std::string device = "cuda";
  std::vector<int> n_sequences;  // of each run
};

struct Outcome {
  double step_s = 0;  // median
  int64_t n_replays = 0;
  std::vector<int32_t> tokens;
};

class DecodeRun {
 public:
  DecodeRun(const worker::LoadedModel& model, kernels::Device& device, const Options& options,
            int n_sequences)
      : model_(model),
        device_(device),
        n_sequences_(n_sequences),
        n_warm_up_(RepeatsOn(options.device, kMostWarmUpSteps)),
        n_steps_(RepeatsOn(options.device, kMostSteps)) {}

  Result<Outcome> Measure(uint64_t graph_bytes) {
    worker::StageOptions options;
    options.layers = {0, model_.config.n_layer, true, true};
    options.kv.n_pages = static_cast<int64_t>(n_sequences_) * kPagesEach;
    options.graph_bytes = graph_bytes;
    TC_ASSIGN_OR_RETURN(stage_, worker::Stage::Create(model_.source(), options, device_, nullptr,
                                                      worker::IgnoreProgress));
    Outcome outcome;
    std::vector<double> seconds;
    last_.assign(static_cast<size_t>(n_sequences_), 0);
    for (int i = 0; i <= n_warm_up_ + n_steps_; ++i) {
      const TimePoint begin = clock_.Now();
      TC_RETURN_IF_ERROR(Step(i));
      if (i > n_warm_up_) seconds.push_back(Seconds(clock_.Now() - begin));
      outcome.tokens.insert(outcome.tokens.end(), last_.begin(), last_.end());
    }
    outcome.step_s = MedianOf(seconds);
    if (stage_->graphs() != nullptr) outcome.n_replays = stage_->graphs()->n_replays();
    stage_.reset();
    return outcome;
  }

 private:
  static constexpr int64_t kPagesEach = 16;  // of 16 positions

  // Step 0 is that of the prompts.
  Status Step(int i) {
    proto::StepBatch batch;
    batch.step = StepId{static_cast<uint64_t>(i) + 1};
    for (int s = 0; s < n_sequences_; ++s) {
      proto::StepEntry& entry = batch.entries.emplace_back();
      entry.seq = SeqId{static_cast<uint64_t>(s) + 1};
      entry.sample = true;
      entry.first_position = i == 0 ? 0 : kPrompt + i - 1;
      entry.tokens = {last_[static_cast<size_t>(s)]};
      if (i > 0) continue;
      entry.tokens = {5, 17, 42, 99 + s};
      entry.start.emplace();
      entry.start->params.temperature = 0;
      entry.start->n_prompt = kPrompt;
    }
    TC_RETURN_IF_ERROR(stage_->Run(batch, {}));
    for (size_t s = 0; s < last_.size(); ++s) last_[s] = stage_->results()[s].sampled->token;
    return OkStatus();
  }

  const worker::LoadedModel& model_;
  kernels::Device& device_;
  const int n_sequences_, n_warm_up_, n_steps_;
  const SteadyClock clock_{};
  std::unique_ptr<worker::Stage> stage_;
  std::vector<int32_t> last_;  // tokens
};

Status Run(const Options& options) {
  TC_ASSIGN_OR_RETURN(const auto device, OpenDevice(options.device));
  TC_RETURN_IF_ERROR(worker::RunEveryOp(*device));  // kernels are loaded, as in a worker
  TC_ASSIGN_OR_RETURN(const auto model, worker::OpenModel(options.model_path));
  std::printf("%s, %d layers\n\n", device->name().c_str(), model.config.n_layer);
  std::printf("| sequences | op by op | replayed | replayed / op by op | replays | tokens |\n");
  std::printf("|---:|---:|---:|---:|---:|---|\n");
  bool is_same = true;
  for (const int n_sequences : options.n_sequences) {
    DecodeRun run(model, *device, options, n_sequences);
    TC_ASSIGN_OR_RETURN(const Outcome launched, run.Measure(0));
    TC_ASSIGN_OR_RETURN(const Outcome replayed, run.Measure(worker::kMaxGraphBytes));
    if (replayed.n_replays == 0) return Unavailable("no step was replayed");
    const bool has_same_tokens = launched.tokens == replayed.tokens;
    std::printf("| %d | %.3f ms | %.3f ms | %.2f | %lld | %s |\n", n_sequences,
                launched.step_s * 1e3, replayed.step_s * 1e3, replayed.step_s / launched.step_s,
                static_cast<long long>(replayed.n_replays),
                has_same_tokens ? "the same" : "differ");
    is_same = is_same && has_same_tokens;
  }
  return is_same ? OkStatus() : Internal("replayed steps choose other tokens");
}

}  // namespace
}  // namespace thermocline::bench

int main(int argc, char** argv) {
  thermocline::bench::Options options;
  if (argc > 1) options.model_path = argv[1];
  if (argc > 2) options.device = argv[2];
  for (int i = 3; i < argc; ++i) options.n_sequences.push_back(std::atoi(argv[i]));
  if (options.n_sequences.empty()) options.n_sequences = {1};
  const auto [least, most] = std::ranges::minmax(options.n_sequences);
  if (argc < 2 || least < 1 || most > 64) {
    std::fprintf(stderr, "graph_step MODEL [DEVICE [SEQUENCES...]]\n");
    return 2;
  }
  const auto status = thermocline::bench::Run(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
