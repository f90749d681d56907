// What a benchmark has found, and how it is printed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/traffic.h"
#include "tools/bench_model/cases.h"
#include "tools/bench_model/flags.h"
#include "tools/bench_model/op_times.h"
#include "tools/local/model_summary.h"

namespace thermocline::tools {

// One value per repetition in each list; `against` is empty without --against.
struct CaseResult {
  std::vector<double> tokens_per_s;
  std::vector<double> bytes_per_s;         // weights and KV that the ops read, over the time
  std::vector<double> stream_bytes_per_s;  // of the threads, mean of just before and just after
  std::vector<double> gather_bytes_per_s;  // the same for 4 KiB rows
  std::vector<double> against_tokens_per_s;
  kernels::Traffic traffic;     // of all repetitions
  int64_t n_tokens = 0;         // of all repetitions
  int64_t n_steps = 0;          // of all repetitions
  int64_t n_replays = 0;        // of these, those whose layers a GPU ran as one launch
  double seconds = 0;           // of all repetitions
  std::vector<OpTime> ops;      // of all repetitions; empty unless they were watched
  std::string ffn_text;         // what the layers ran, most of them: "auto: exact 12 layers, ..."
  uint64_t peak_rss_bytes = 0;  // of the process so far, without the probe's buffer

  // Weights and KV per token; a batch shares the weights.
  double bytes_per_token() const;
  // The share of neurons that were added; 1 where the ops knew of no silent ones (dense).
  double density() const { return traffic.n_neurons == 0 ? 1 : traffic.density(); }
  // Of the steps, those that were replayed.
  double replayed_share() const;
  // bytes_per_s over stream_bytes_per_s, by repetition.
  std::vector<double> stream_shares() const;
  // Ours over theirs, by repetition: a pair ran side by side.
  std::vector<double> paired_ratios() const;
};

struct BenchReport {
  std::string build;  // version and commit
  std::string date;
  std::string cpu;
  std::string instruction_set;  // as the device says it: "cpu avx512"
  int n_cores = 0;
  int repetitions = 0;
  uint64_t probe_bytes = 0;
  bool is_apart = false;           // stream: copies within the device, bytes read and written
  std::string against;             // the command, "" = none
  std::vector<std::string> notes;  // what did not run, and what says little; a sentence each
  std::vector<ModelSummary> models;
  std::vector<BenchSetup> setups;
  std::vector<BenchCase> cases;
  std::vector<CaseResult> results;  // as `cases`
};

std::string FormatReport(const BenchReport& report, ReportFormat format);

}  // namespace thermocline::tools
