// thermocline-generate: completes one prompt in this process.
#include <CLI/CLI.hpp>

#include "tools/generate/flags.h"
#include "tools/generate/run.h"
#include "tools/program.h"
#include "worker/graphs_flag.h"

namespace {

using thermocline::tools::GenerateFlags;

void AddFlags(CLI::App* app, GenerateFlags* flags) {
  app->add_option("-m,--model", flags->model_path, "GGUF file (or PowerInfer's PWRI)")->required();
  app->add_option("-p,--prompt", flags->prompt, "Text to continue");
  app->add_option("-f,--file", flags->prompt_path,
                  "File with the text to continue, without its last newline; -: standard input");
  app->add_option("--prompt-tokens", flags->prompt_tokens, "The prompt as token ids: 1,2,3");
  app->add_option("-n,--n-predict,--predict,--max-tokens", flags->n_predict,
                  "Tokens to generate; -1: until the context is full")
      ->capture_default_str();
  app->add_option("-c,--ctx-size,--max-model-len", flags->n_ctx,
                  "Longest sequence, e.g. 4096 or 32K (default: what this prompt needs)");
  app->add_option("-t,--threads", flags->n_threads, "Compute threads (default: all cores)");
  app->add_option("--cpus", flags->cpus,
                  "CPUs to compute on, e.g. 0-3,8: each thread stays on one of them, and --threads "
                  "is their number unless given (default: wherever the system puts threads)");
  app->add_option("--device", flags->device,
                  "What computes: cpu, cuda (a GPU), cuda:1 (the second one), or auto: a GPU if "
                  "there is one")
      ->capture_default_str();
  app->add_option("--cuda-graphs", flags->cuda_graphs, thermocline::worker::kCudaGraphsHelp)
      ->capture_default_str();
  app->add_option("--isa", flags->isa,
                  "Instruction set of the kernels: auto, or one this machine has (avx512-vnni, "
                  "avx512, avx2, sse4, neon, scalar)");
  app->add_option("-b,--batch-size,--max-num-batched-tokens", flags->prefill_chunk,
                  "Prompt tokens per step")
      ->capture_default_str();
  app->add_option("--ffn", flags->ffn,
                  "dense: every neuron; exact: skip those a ReLU silenced; predicted, thresholded: "
                  "skip more, by a sparsity file; auto: the fastest allowed, measured per layer")
      ->capture_default_str();
  app->add_option("--predictor", flags->predictor_path,
                  "Sparsity file (default: M.predictor.gguf beside M.gguf, if there)");
  app->add_option(
      "--allow-loss", flags->allowed_loss,
      "Perplexity that predicted or thresholded may cost, 0.01 = 1 % (default: what the "
      "sparsity file allows)");
  app->add_option("--kv-cache-dtype,--cache-type-k,--cache-type-v", flags->kv_dtype,
                  "Type of stored keys and values: f32, f16, or auto (f32)")
      ->capture_default_str();
  app->add_option("--stop", flags->stops,
                  "End before this text, which is not printed; may be given several times")
      ->allow_extra_args(false);
  app->add_flag("--ignore-eos", flags->ignore_eos, "Go on after an end-of-text token");
  app->add_flag("--json", flags->json, "Print one JSON object instead of the text");
  app->add_option("--logits-out", flags->logits_path,
                  "Write one float32 row of n_vocab per token of prompt and completion");
  thermocline::tools::AddLogLevel(app, &flags->log_level);
}

void AddSamplingFlags(CLI::App* app, GenerateFlags* flags) {
  thermocline::model::SamplingParams& sampling = flags->sampling;
  constexpr char kGroup[] = "Sampling";
  app->add_option("--temperature,--temp", sampling.temperature, "0: always the likeliest token")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("-s,--seed", sampling.seed, "Same seed, same text (default: random)")
      ->group(kGroup);
  app->add_option("--top-k", sampling.top_k, "Only the k likeliest; 0: off")->group(kGroup);
  app->add_option("--top-p", sampling.top_p, "Only the likeliest of that total probability")
      ->group(kGroup);
  app->add_option("--min-p", sampling.min_p, "Only those at least this share of the likeliest")
      ->group(kGroup);
  app->add_option("--repeat-penalty,--repetition-penalty", sampling.repetition_penalty,
                  "Divide the logits of tokens already seen; 1: off")
      ->group(kGroup);
  app->add_option("--presence-penalty", sampling.presence_penalty, "Per token already generated")
      ->group(kGroup);
  app->add_option("--frequency-penalty", sampling.frequency_penalty,
                  "Per occurrence of a token already generated")
      ->group(kGroup);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  GenerateFlags flags;
  flags.sampling.temperature = 0;
  CLI::App app("Completes one prompt in this process, without a cluster.", "thermocline generate");
  AddFlags(&app, &flags);
  AddSamplingFlags(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  flags.has_prompt = app.count("--prompt") > 0;
  flags.has_seed = app.count("--seed") > 0;
  tools::IgnoreClosedPipes();
  const Status log = tools::StartLog(flags.log_level);
  return tools::EndProgram(app, log.ok() ? tools::RunGenerate(flags) : log);
}
