// thermocline-synth: writes models with planted sparsity to measure speed with.
#include <CLI/CLI.hpp>

#include "tools/interrupt.h"
#include "tools/program.h"
#include "tools/synth/flags.h"
#include "tools/synth/run.h"

namespace {

using thermocline::tools::SynthFlags;

constexpr char kAbout[] =
    "Writes a model of any shape with random weights and planted sparsity, to measure speed with:\n"
    "no download, and the share of active neurons is what you ask for in every layer.\n"
    "\n"
    "  thermocline synth -o bench.gguf                                 869 M parameters, 10 % "
    "active\n"
    "  thermocline synth -o small.gguf --shape "
    "n_embd=512,n_ff=2048,n_layer=4,n_head=8,n_head_kv=8\n"
    "  thermocline synth -o bench.pwri --pwri --type q4_0 --check      PowerInfer's dialect\n"
    "\n"
    "arcee models are ReLU^2 without gate, opt models ReLU without gate, llama models ReGLU (key\n"
    "llama.hidden_activation, which other programs may ignore). PowerInfer itself wants OPT's "
    "head\n"
    "tied to the embeddings, which it is not here. The text the models generate means nothing.";

void AddFlags(CLI::App* app, SynthFlags* flags) {
  app->add_option("-o,--output", flags->output, "GGUF file to write")->required();
  app->add_option("--shape", flags->shape,
                  "Sizes, those not named as here: n_embd=2048,n_ff=8192,n_layer=16,n_head=16,"
                  "n_head_kv=8,n_vocab=32000,n_ctx=4096");
  app->add_option("--arch", flags->arch, "arcee, llama or opt (default: arcee, with --pwri llama)");
  app->add_option("--type", flags->dtype, "f32 f16 bf16 q8_0 q4_0 q4_k q5_k or q6_k")
      ->capture_default_str();
  app->add_option("-s,--seed", flags->seed, "Same seed, same file")->capture_default_str();
  app->add_option("-t,--threads", flags->n_threads, "Threads (default: all cores)");
  app->add_option("--density", flags->density, "Mean share of neurons active for a token")
      ->capture_default_str();
  app->add_option("--hot-frac", flags->hot_frac, "This share of the neurons ...")
      ->capture_default_str();
  app->add_option("--hot-share", flags->hot_share, "... makes this share of the activations")
      ->capture_default_str();
  app->add_flag("--check", flags->check, "Generate text and measure the density back, by layer");
  app->add_option("--check-tokens", flags->check_tokens, "Tokens of that text")
      ->capture_default_str();
  constexpr char kGroup[] = "PowerInfer";
  app->add_flag("--pwri", flags->powerinfer, "PowerInfer's dialect, with predictors")
      ->group(kGroup);
  app->add_option("--predictor", flags->n_predictor,
                  "Hidden size of the predictors, a multiple of 32")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option(
         "--predictor-type", flags->predictor_dtype,
         "Type of the predictors (default: --type). They are exact where the weights they predict "
         "are f32 or f16; 4-bit weights round, and 96 % of active neurons are found")
      ->group(kGroup);
}

}  // namespace

int main(int argc, char** argv) {
  using namespace thermocline;
  SynthFlags flags;
  CLI::App app(kAbout, "thermocline synth");
  AddFlags(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  tools::CatchInterrupts();
  return tools::EndProgram(app, tools::RunSynth(flags));
}
