// thermocline-bench: speed of a model in this process, beside the speed of its memory.
#include <CLI/CLI.hpp>

#include "tools/bench_model/flags.h"
#include "tools/bench_model/run.h"
#include "tools/program.h"
#include "worker/graphs_flag.h"

namespace {

using thermocline::tools::BenchFlags;

constexpr char kDescription[] =
    "Measures how fast a model reads prompts (pp) and decodes (tg), the bytes each token reads, "
    "and "
    "the share of the memory's speed. Lists like 1,2,4 give every combination, run in turns:\n"
    "  thermocline bench -m model.gguf -p 64 -n 64 -t 1,2 -b 1,4,16 --ffn dense,exact";
constexpr char kAgainstHelp[] =
    "Run this command line once beside each repetition, read its tokens/s and print the ratio. It "
    "may have {model} {threads} {n_prompt} {n_gen} {batch}: "
    "'llama-bench -m {model} -t {threads} -p {n_prompt} -n {n_gen} -r 1'";

void AddCaseFlags(CLI::App* app, BenchFlags* flags) {
  app->add_option("-m,--model", flags->models, "GGUF files (or PowerInfer's PWRI): A,B")
      ->required();
  app->add_option("-p,--n-prompt", flags->prompts, "Tokens of a prompt to read; 0: none")
      ->capture_default_str();
  app->add_option("-n,--n-gen", flags->gens, "Tokens to decode for each sequence; 0: none")
      ->capture_default_str();
  app->add_option("-b,--parallel", flags->batches, "Sequences that decode together in one step")
      ->capture_default_str();
  app->add_option("-d,--ctx,--depth", flags->depths,
                  "Tokens of each sequence in the context before the time is taken")
      ->capture_default_str();
  app->add_option("-t,--threads", flags->threads, "Compute threads (default: all cores)");
  app->add_option("--cpus", flags->cpus,
                  "CPUs to compute on, e.g. 0-3,8: each thread stays on one of them, --against may "
                  "use them too (default: wherever the system puts threads)");
  app->add_option("--device", flags->device,
                  "What computes: cpu, cuda (a GPU), cuda:1 (the second one), or auto")
      ->capture_default_str();
  app->add_option("--cuda-graphs", flags->cuda_graphs, thermocline::worker::kCudaGraphsHelp)
      ->capture_default_str();
  app->add_option("--isa", flags->isa,
                  "Instruction set of the kernels: auto, or one this machine has (avx512-vnni, "
                  "avx512, avx2, sse4, neon, scalar)");
  app->add_option("--ffn", flags->ffn, "FFN modes: dense, exact, predicted, thresholded, auto")
      ->capture_default_str();
  app->add_option("--predictor", flags->predictor_path,
                  "Sparsity file (default: M.predictor.gguf beside M.gguf, if there)");
  app->add_option("--allow-loss", flags->allowed_loss,
                  "Perplexity that predicted or thresholded may cost, 0.01 = 1 % (default: what "
                  "the sparsity file allows)");
  app->add_option("--cache-type,--kv-cache-dtype,--cache-type-k,--cache-type-v", flags->cache_types,
                  "Types of stored keys and values: f32, f16")
      ->capture_default_str();
}

void AddRunFlags(CLI::App* app, BenchFlags* flags) {
  app->add_option("-r,--repetitions", flags->repetitions, "Rounds over all cases")
      ->capture_default_str();
  app->add_option("--batch-size", flags->batch_size, "Prompt tokens per step")
      ->capture_default_str();
  app->add_option("-s,--seed", flags->seed, "Of prompts and sampling")->capture_default_str();
  app->add_option("-o,--output", flags->format, "md, json (every sample) or csv")
      ->capture_default_str();
  app->add_flag("--per-op", flags->per_op,
                "Also tell for each operator its time per step, bytes and GB/s (md, json)");
  app->add_option("--probe-memory", flags->probe_memory,
                  "Memory to measure the bandwidth on, e.g. 512M (default: four times the largest "
                  "cache, 512M to 2G)");
  app->add_option("--against", flags->against, kAgainstHelp);
  app->add_option("--against-pattern", flags->against_pattern,
                  "Regular expression whose last match in that output, or its first group, is the "
                  "number of tokens/s (default: what llama-bench and PowerInfer print)");
  app->add_option("--against-timeout", flags->against_timeout_s, "Seconds for one run of it")
      ->capture_default_str();
  thermocline::tools::AddLogLevel(app, &flags->log_level);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  BenchFlags flags;
  CLI::App app(kDescription, "thermocline bench");
  AddCaseFlags(&app, &flags);
  AddRunFlags(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  tools::IgnoreClosedPipes();
  const Status log = tools::StartLog(flags.log_level);
  return tools::EndProgram(app, log.ok() ? tools::RunBench(flags) : log);
}
