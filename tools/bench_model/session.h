// Loads the models of a benchmark and runs its cases in turns, with the machine's bandwidth
// measured around each run.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "tools/bench_model/against.h"
#include "tools/bench_model/case_runner.h"
#include "tools/bench_model/cases.h"
#include "tools/bench_model/op_times.h"
#include "tools/bench_model/report.h"
#include "tools/local/local_stage.h"
#include "worker/assignment.h"
#include "worker/probe/bandwidth_probe.h"
#include "worker/probe/device_copy_probe.h"

namespace thermocline::tools {

struct SessionOptions {
  int repetitions = 5;
  int batch_size = 512;
  uint64_t seed = 1;
  std::optional<double> allowed_loss;  // of FFN modes; none: what the sparsity files allow
  uint64_t probe_bytes = 0;            // 0: ProbeBufferBytes of this machine
  std::vector<int> cpus;               // thread i stays on the i-th; none: not pinned
  bool per_op = false;                 // take the time of each operator too
  kernels::DeviceChoice device{.kind = kernels::DeviceChoice::Kind::kCpu};
  bool uses_graphs = true;  // of a GPU that can replay steps
};

using BenchProgressFn = std::function<void(const std::string& line)>;

// Owns the probe and the stages while they are needed. One thread.
class BenchSession {
 public:
  // `models` as the setups number them; they outlive the session, as do `cases` and `against`,
  // which may be null. kInvalidArgument for an FFN mode that a model cannot run, or more positions
  // than any cache has.
  static Result<std::unique_ptr<BenchSession>> Create(
      const std::vector<worker::LoadedModel>& models, const BenchCases& cases,
      const Against* against, const SessionOptions& options, BenchProgressFn on_progress);

  // Every case once to warm up, then `repetitions` rounds over all cases: what disturbs a shared
  // machine for some seconds hits all alike. Setups that memory does not hold together follow each
  // other instead. One result per case. `model_paths` are for --against.
  Result<std::vector<CaseResult>> Run(const std::vector<std::string>& model_paths);

  uint64_t probe_bytes() const { return probe_.buffer_bytes(); }
  // "cpu avx512", of the last stage loaded.
  const std::string& instruction_set() const { return instruction_set_; }
  // Whether cases ran on a device with memory of its own, against copies within it.
  bool is_apart() const { return is_apart_; }

 private:
  // A setup ready to run.
  struct Loaded {
    bool chooses_ffn = false;
    std::unique_ptr<OpTimes> op_times;  // null unless ops are watched
    std::unique_ptr<LocalStage> stage;
    std::unique_ptr<CaseRunner> runner;
    std::optional<worker::DeviceCopyProbe> copying;  // of a device with memory of its own
  };
  // What a case is measured against, beside it.
  struct Peaks {
    double stream_bytes_per_s = 0;
    double gather_bytes_per_s = 0;  // 0 where it is not the host's memory
  };
  Result<Peaks> MeasurePeaks(size_t i_setup);

  BenchSession(const std::vector<worker::LoadedModel>& models, const BenchCases& cases,
               const Against* against, const SessionOptions& options, worker::BandwidthProbe probe,
               BenchProgressFn on_progress)
      : models_(models),
        cases_(cases),
        against_(against),
        options_(options),
        probe_(std::move(probe)),
        on_progress_(std::move(on_progress)) {}

  Status MakePools();
  uint64_t BytesOf(size_t i_setup) const;
  placement::KvBudget KvOf(size_t i_setup) const;
  Status Load(size_t i_setup);
  Status RunGroup(const std::vector<size_t>& setups, const std::vector<std::string>& model_paths);
  Status WarmUp(const BenchCase& test);
  Status Measure(size_t i_case, int repetition);
  Status MeasurePinned(size_t i_case, int repetition);
  Status MeasureAgainst(size_t i_case, const std::string& model_path);
  std::string Describe(const BenchCase& test) const;

  const std::vector<worker::LoadedModel>& models_;
  const BenchCases& cases_;
  const Against* const against_;
  const SessionOptions options_;
  worker::BandwidthProbe probe_;
  const BenchProgressFn on_progress_;
  std::map<int, std::unique_ptr<ThreadPool>> pools_;  // by threads: for the probe
  std::map<size_t, Loaded> loaded_;                   // by setup
  std::vector<CaseResult> results_;
  std::string instruction_set_;
  bool is_apart_ = false;
};

}  // namespace thermocline::tools
