#include "tools/bench_model/flags.h"

#include <algorithm>

#include "base/cpu_list.h"
#include "base/str.h"
#include "base/thread_pool.h"
#include "base/units.h"
#include "model/ffn_mode.h"
#include "tools/bench_model/number_list.h"
#include "worker/graphs_flag.h"
#include "worker/probe/bandwidth_probe.h"

namespace thermocline::tools {
namespace {

Result<ReportFormat> ParseFormat(const std::string& name) {
  if (name == "md") return ReportFormat::kMarkdown;
  if (name == "json") return ReportFormat::kJson;
  if (name == "csv") return ReportFormat::kCsv;
  return InvalidArgument(Str("unknown --output \"", Printable(name), "\"; one of md json csv"));
}

Result<std::vector<std::string>> ParseModes(const BenchFlags& flags) {
  TC_ASSIGN_OR_RETURN(const auto words, SplitList("--ffn", flags.ffn));
  std::vector<std::string> modes;
  for (const std::string& word : words) {
    TC_RETURN_IF_ERROR(model::ParseFfnWish(word, flags.allowed_loss).status());
    if (std::find(modes.begin(), modes.end(), word) == modes.end()) modes.push_back(word);
  }
  return modes;
}

// Types that are measured one after the other: no auto, which is one of them.
Result<std::vector<DType>> ParseCacheTypes(const std::string& text) {
  TC_ASSIGN_OR_RETURN(const auto names, SplitList("--cache-type", text));
  std::vector<DType> types;
  for (const std::string& name : names) {
    if (name != "f32" && name != "f16") {
      return InvalidArgument(Str("unknown --cache-type \"", Printable(name), "\"; one of f32 f16"));
    }
    types.push_back(name == "f32" ? DType::kF32 : DType::kF16);
  }
  return types;
}

Status CheckNumbers(const BenchFlags& flags) {
  if (flags.repetitions < 1 || flags.repetitions > kMaxRepetitions) {
    return InvalidArgument(Str("--repetitions out of range:", Kv("value", flags.repetitions),
                               Kv("min", 1), Kv("max", kMaxRepetitions)));
  }
  if (flags.batch_size < 1 || flags.batch_size > kMaxBatchSize) {
    return InvalidArgument(Str("--batch-size out of range:", Kv("tokens", flags.batch_size),
                               Kv("min", 1), Kv("max", kMaxBatchSize)));
  }
  if (flags.against_timeout_s < 1) {
    return InvalidArgument(
        Str("--against-timeout must be at least 1:", Kv("seconds", flags.against_timeout_s)));
  }
  if (flags.against.empty() && !flags.against_pattern.empty()) {
    return InvalidArgument("--against-pattern needs --against");
  }
  return OkStatus();
}

// 0 for "". A buffer smaller than the caches measures those.
Result<uint64_t> ParseProbeMemory(const std::string& text) {
  if (text.empty()) return uint64_t{0};
  const auto bytes = ParseBytes(text);
  if (!bytes.ok()) return bytes.status().WithContext("--probe-memory");
  if (*bytes < worker::kMinProbeBytes || *bytes > worker::kMaxProbeBytes) {
    return InvalidArgument(Str("--probe-memory out of range:", Kv("bytes", *bytes),
                               Kv("min", worker::kMinProbeBytes),
                               Kv("max", worker::kMaxProbeBytes)));
  }
  return *bytes;
}

Status ParseThreads(const BenchFlags& flags, BenchOptions* options) {
  auto cpus = ParseCpuList(flags.cpus);
  if (!cpus.ok()) return cpus.status().WithContext("--cpus");
  options->cpus = std::move(*cpus);
  TC_ASSIGN_OR_RETURN(const int all, ThreadsOn(options->cpus, 0));
  const std::string threads = flags.threads.empty() ? std::to_string(all) : flags.threads;
  TC_ASSIGN_OR_RETURN(options->threads,
                      ParseNumberList("--threads", threads, {1, ThreadPool::kMaxThreads}));
  for (const int64_t n : options->threads) {
    TC_RETURN_IF_ERROR(ThreadsOn(options->cpus, static_cast<int>(n)).status());
  }
  return OkStatus();
}

void DropZeros(std::vector<int64_t>* numbers) { std::erase(*numbers, 0); }

}  // namespace

Result<BenchOptions> ParseBenchFlags(const BenchFlags& flags) {
  TC_RETURN_IF_ERROR(CheckNumbers(flags));
  BenchOptions options;
  TC_ASSIGN_OR_RETURN(options.model_paths, SplitList("--model", flags.models));
  const NumberRange tokens{0, kMaxBenchTokens};
  TC_ASSIGN_OR_RETURN(options.prompts, ParseNumberList("--n-prompt", flags.prompts, tokens));
  TC_ASSIGN_OR_RETURN(options.gens, ParseNumberList("--n-gen", flags.gens, tokens));
  DropZeros(&options.prompts);
  DropZeros(&options.gens);
  TC_ASSIGN_OR_RETURN(options.batches,
                      ParseNumberList("--parallel", flags.batches, {1, kMaxBenchBatch}));
  TC_ASSIGN_OR_RETURN(options.depths, ParseNumberList("--ctx", flags.depths, tokens));
  TC_RETURN_IF_ERROR(ParseThreads(flags, &options));
  TC_ASSIGN_OR_RETURN(options.ffn, ParseModes(flags));
  TC_ASSIGN_OR_RETURN(options.cache_types, ParseCacheTypes(flags.cache_types));
  TC_ASSIGN_OR_RETURN(options.format, ParseFormat(flags.format));
  TC_ASSIGN_OR_RETURN(options.uses_graphs, worker::ParseCudaGraphs(flags.cuda_graphs));
  TC_ASSIGN_OR_RETURN(options.probe_bytes, ParseProbeMemory(flags.probe_memory));
  if (flags.per_op && options.format == ReportFormat::kCsv) {
    return InvalidArgument("--per-op needs --output md or json: a line of CSV is one case");
  }
  if (options.prompts.empty() && options.gens.empty()) {
    return InvalidArgument("nothing to measure: --n-prompt and --n-gen are both 0");
  }
  return options;
}

}  // namespace thermocline::tools
