#include "tools/bench_model/session.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "base/str.h"
#include "placement/context.h"
#include "placement/overhead.h"
#include "tools/bench_model/runnable.h"
#include "tools/machine/machine_info.h"
#include "worker/graph_table.h"

namespace thermocline::tools {
namespace {

std::string Rate(double per_s) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f tokens/s", per_s);
  return text;
}

// Keeps the bytes of the KV cache within 64 bits, whatever the model.
Status CheckPositions(const BenchCases& cases) {
  for (const BenchCase& test : cases.cases) {
    const int64_t n = test.batch * test.n_positions();
    if (n <= placement::kMaxKvTokens) continue;
    return InvalidArgument(Str("too many positions in the context: ", TestName(test),
                               Kv("sequences", test.batch), Kv("positions", n),
                               Kv("max", placement::kMaxKvTokens)));
  }
  return OkStatus();
}

}  // namespace

Result<std::unique_ptr<BenchSession>> BenchSession::Create(
    const std::vector<worker::LoadedModel>& models, const BenchCases& cases, const Against* against,
    const SessionOptions& options, BenchProgressFn on_progress) {
  TC_RETURN_IF_ERROR(CheckPositions(cases));
  for (const BenchSetup& setup : cases.setups) {
    TC_RETURN_IF_ERROR(FfnModesOf(models[setup.i_model], setup.ffn, options.allowed_loss).status());
    for (const BenchCase& test : cases.cases) {
      TC_RETURN_IF_ERROR(model::CheckContext(models[setup.i_model].config, test.n_positions()));
    }
  }
  const uint64_t probe_bytes =
      options.probe_bytes > 0
          ? options.probe_bytes
          : worker::ProbeBufferBytes(LastLevelCacheBytes(), AvailableMemoryBytes());
  TC_ASSIGN_OR_RETURN(worker::BandwidthProbe probe, worker::BandwidthProbe::Create(probe_bytes));
  std::unique_ptr<BenchSession> session(
      new BenchSession(models, cases, against, options, std::move(probe), std::move(on_progress)));
  TC_RETURN_IF_ERROR(session->MakePools());
  return session;
}

Status BenchSession::MakePools() {
  for (const BenchSetup& setup : cases_.setups) {
    std::unique_ptr<ThreadPool>& pool = pools_[setup.n_threads];
    if (pool != nullptr) continue;
    TC_ASSIGN_OR_RETURN(
        pool,
        ThreadPool::Create({.n_threads = setup.n_threads, .name = "probe", .cpus = options_.cpus}));
  }
  return OkStatus();
}

placement::KvBudget BenchSession::KvOf(size_t i_setup) const {
  placement::KvBudget kv;
  kv.dtype = cases_.setups[i_setup].kv_dtype;
  kv.n_pages = NeedsOf(cases_, i_setup, options_.batch_size, kv.page_tokens).n_pages;
  return kv;
}

// About what a loaded setup holds: a copy of the weights as the device wants them, KV, scratch.
uint64_t BenchSession::BytesOf(size_t i_setup) const {
  const worker::LoadedModel& model = models_[cases_.setups[i_setup].i_model];
  const model::ModelConfig& config = model.config;
  const model::FfnModes ffn =  // which Create has seen to be right
      *FfnModesOf(model, cases_.setups[i_setup].ffn, options_.allowed_loss);
  const placement::KvBudget kv = KvOf(i_setup);
  const StageNeeds needs = NeedsOf(cases_, i_setup, options_.batch_size, kv.page_tokens);
  return model.weights.BytesOf({0, config.n_layer, true, true}) +
         static_cast<uint64_t>(kv.n_pages) * static_cast<uint64_t>(config.n_layer) *
             placement::KvPageBytes(config, kv) +
         placement::OverheadModel(config, model.weights, ffn, needs.max_step_tokens, kv.n_pages)
             .MostOfLead({0, config.n_layer, true, true}, 0, placement::Holder::kProcess);
}

Status BenchSession::Load(size_t i_setup) {
  const BenchSetup& setup = cases_.setups[i_setup];
  const worker::LoadedModel& model = models_[setup.i_model];
  LocalStageOptions options;
  options.device = options_.device;
  options.n_threads = setup.n_threads;
  options.cpus = options_.cpus;
  options.uses_graphs = options_.uses_graphs;
  TC_ASSIGN_OR_RETURN(options.ffn, FfnModesOf(model, setup.ffn, options_.allowed_loss));
  options.kv = KvOf(i_setup);
  options.max_step_tokens =
      NeedsOf(cases_, i_setup, options_.batch_size, options.kv.page_tokens).max_step_tokens;
  Loaded& loaded = loaded_[i_setup];
  loaded.chooses_ffn = options.ffn.size() > 1;
  if (options_.per_op) loaded.op_times = std::make_unique<OpTimes>();
  options.observer = loaded.op_times.get();
  TC_ASSIGN_OR_RETURN(loaded.stage, LocalStage::Load(model, options, worker::IgnoreProgress));
  if (options_.per_op) loaded.op_times->Watch(&loaded.stage->traffic());
  loaded.runner = std::make_unique<CaseRunner>(
      loaded.stage.get(), CaseRunner::Options{model.config.n_vocab, options_.batch_size,
                                              options_.seed, loaded.op_times.get()});
  kernels::Device& device = loaded.stage->device();
  is_apart_ = !device.reads_host_memory();
  instruction_set_ = device.name();  // "cpu avx512 x2", "cuda:0 NVIDIA H200"
  if (!is_apart_) instruction_set_.resize(instruction_set_.rfind(' '));
  if (is_apart_) {
    TC_ASSIGN_OR_RETURN(loaded.copying, worker::DeviceCopyProbe::Create(device));
  }
  return OkStatus();
}

std::string BenchSession::Describe(const BenchCase& test) const {
  const BenchSetup& setup = cases_.setups[test.i_setup];
  return Str(models_.size() > 1 ? Str("model ", setup.i_model + 1, " ") : "", TestName(test),
             " batch ", test.batch, " threads ", setup.n_threads, " ", setup.ffn, " ",
             DTypeName(setup.kv_dtype));
}

// All weights read once and every code path taken: as many decode steps do that as come before one
// that is replayed, and that one. A stage that chooses among FFN modes runs the whole case, to have
// measured them.
Status BenchSession::WarmUp(const BenchCase& test) {
  constexpr int64_t kSteps = worker::GraphTable::kComings + 1;
  const Loaded& loaded = loaded_.at(test.i_setup);
  BenchCase brief = test;
  if (!loaded.chooses_ffn) brief.n_gen = std::min(test.n_gen, kSteps);
  return loaded.runner->Run(brief, -1).status();
}

// While we compute, this thread stays on its CPU; a peer that it starts may use the whole list.
Status BenchSession::Measure(size_t i_case, int repetition) {
  TC_RETURN_IF_ERROR(RunOn(FirstOf(options_.cpus)));
  const Status measured = MeasurePinned(i_case, repetition);
  TC_RETURN_IF_ERROR(RunOn(options_.cpus));
  return measured;
}

Result<BenchSession::Peaks> BenchSession::MeasurePeaks(size_t i_setup) {
  if (auto& copying = loaded_.at(i_setup).copying) {
    TC_ASSIGN_OR_RETURN(const double bytes_per_s, copying->BytesPerS());
    return Peaks{bytes_per_s, 0};
  }
  ThreadPool& pool = *pools_.at(cases_.setups[i_setup].n_threads);
  Peaks peaks;
  peaks.gather_bytes_per_s = probe_.Gather(pool);
  peaks.stream_bytes_per_s = probe_.Stream(pool);
  return peaks;
}

Status BenchSession::MeasurePinned(size_t i_case, int repetition) {
  const BenchCase& test = cases_.cases[i_case];
  CaseResult& result = results_[i_case];
  TC_ASSIGN_OR_RETURN(const Peaks before, MeasurePeaks(test.i_setup));
  TC_ASSIGN_OR_RETURN(const CaseSample sample,
                      loaded_.at(test.i_setup).runner->Run(test, repetition));
  TC_ASSIGN_OR_RETURN(const Peaks after, MeasurePeaks(test.i_setup));
  result.stream_bytes_per_s.push_back((before.stream_bytes_per_s + after.stream_bytes_per_s) / 2);
  result.gather_bytes_per_s.push_back((before.gather_bytes_per_s + after.gather_bytes_per_s) / 2);
  const uint64_t n_bytes = sample.traffic.weight_bytes + sample.traffic.kv_bytes;
  result.tokens_per_s.push_back(static_cast<double>(test.n_tokens()) / sample.seconds);
  result.bytes_per_s.push_back(static_cast<double>(n_bytes) / sample.seconds);
  result.traffic = result.traffic + sample.traffic;
  result.n_tokens += test.n_tokens();
  result.n_steps += sample.n_steps;
  result.n_replays += sample.n_replays;
  result.seconds += sample.seconds;
  AddOpTimes(sample.ops, &result.ops);
  result.ffn_text = loaded_.at(test.i_setup).stage->ffn_text();
  const uint64_t peak = PeakRssBytes();
  result.peak_rss_bytes = peak - std::min(peak, probe_bytes());
  return OkStatus();
}

Status BenchSession::MeasureAgainst(size_t i_case, const std::string& model_path) {
  const BenchCase& test = cases_.cases[i_case];
  const int n_threads = cases_.setups[test.i_setup].n_threads;
  TC_ASSIGN_OR_RETURN(const double speed, against_->Run({model_path, n_threads, test.n_prompt,
                                                         test.n_gen, test.batch}));
  results_[i_case].against_tokens_per_s.push_back(speed);
  return OkStatus();
}

Status BenchSession::RunGroup(const std::vector<size_t>& setups,
                              const std::vector<std::string>& model_paths) {
  for (const size_t i_setup : setups) {
    on_progress_(Str("loading ", model_paths[cases_.setups[i_setup].i_model], " for ",
                     cases_.setups[i_setup].n_threads, " threads, ", cases_.setups[i_setup].ffn));
    TC_RETURN_IF_ERROR(Load(i_setup));
  }
  // Round 0 warms up.
  for (int round = 0; round <= options_.repetitions; ++round) {
    for (size_t i = 0; i < cases_.cases.size(); ++i) {
      const BenchCase& test = cases_.cases[i];
      if (!loaded_.contains(test.i_setup)) continue;
      if (round == 0) {
        on_progress_(Str("warming up ", Describe(test)));
        TC_RETURN_IF_ERROR(WarmUp(test));
        continue;
      }
      TC_RETURN_IF_ERROR(Measure(i, round));
      std::string line = Str("round ", round, "/", options_.repetitions, " ", Describe(test), ": ",
                             Rate(results_[i].tokens_per_s.back()));
      if (against_ != nullptr) {
        TC_RETURN_IF_ERROR(MeasureAgainst(i, model_paths[cases_.setups[test.i_setup].i_model]));
        line += Str(", against ", Rate(results_[i].against_tokens_per_s.back()));
      }
      on_progress_(line);
    }
  }
  loaded_.clear();
  return OkStatus();
}

Result<std::vector<CaseResult>> BenchSession::Run(const std::vector<std::string>& model_paths) {
  results_.assign(cases_.cases.size(), CaseResult{});
  std::vector<uint64_t> needs;
  for (size_t i = 0; i < cases_.setups.size(); ++i) needs.push_back(BytesOf(i));
  // An eighth is left for what the estimate does not know. 0: the system does not say.
  const uint64_t available = AvailableMemoryBytes();
  const uint64_t budget = available > 0 ? available - available / 8 : UINT64_MAX;
  const auto groups = GroupByMemory(needs, budget);
  if (groups.size() > 1) {
    on_progress_(Str("memory does not hold all at once: ", groups.size(),
                     " groups of cases follow each other"));
  }
  for (const std::vector<size_t>& setups : groups) {
    TC_RETURN_IF_ERROR(RunGroup(setups, model_paths));
  }
  return std::move(results_);
}

}  // namespace thermocline::tools
