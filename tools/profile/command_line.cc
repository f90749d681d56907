#include "tools/profile/command_line.h"

#include <CLI/CLI.hpp>

#include "tools/program.h"

namespace thermocline::tools {
namespace {

constexpr char kDescription[] =
    "Measures how a model uses its neurons while it reads your text, and makes the files that let\n"
    "it skip the silent ones:\n"
    "  M.profile.gguf    how often each neuron fires (for placing hot neurons on fast memory)\n"
    "  M.predictor.gguf  with --train-predictor or --threshold-target: what predicted and\n"
    "                    thresholded FFNs need, with the loss of perplexity that each costs\n"
    "Examples:\n"
    "  thermocline profile -m M.gguf --text corpus.txt --html profile.html\n"
    "  thermocline profile -m relu.gguf --text corpus.txt --train-predictor\n"
    "  thermocline profile -m swiglu.gguf --text corpus.txt --threshold-target 0.01\n"
    "  thermocline profile -m M.gguf --text other.txt --perplexity-only --ffn predicted\n"
    "  thermocline profile -m powerinfer.gguf --text corpus.txt --guard";

void AddFlags(CLI::App* app, ProfileFlags* flags) {
  app->add_option("-m,--model", flags->model_path, "GGUF file (or PowerInfer's PWRI)")->required();
  app->add_option("--text", flags->text_path, "UTF-8 text like the one the model will see");
  app->add_option("-o,--output", flags->output_path, "The profile (default: M.profile.gguf)");
  app->add_option("--html", flags->html_path, "Also write a page with plots");
  app->add_option("--tokens", flags->n_tokens, "Read so much of the text, e.g. 4096 or 32K")
      ->capture_default_str();
  app->add_option("--held-out", flags->held_out,
                  "Text to measure perplexity on: a file, or a share of the end of --text")
      ->capture_default_str();
  app->add_option("--window", flags->window_tokens, "Tokens read as one sequence")
      ->capture_default_str();
  app->add_option("-t,--threads", flags->n_threads, "Compute threads (default: all cores)");
  app->add_option("-s,--seed", flags->seed, "Of draws and of training")->capture_default_str();
  app->add_flag("-q,--quiet", flags->quiet, "No progress on stderr");
  AddLogLevel(app, &flags->log_level);
  app->add_option("--import-counts", flags->counts_dir,
                  "Instead of --text: a folder with PowerInfer's activation_<layer>.pt (or .npy)");
  app->add_option("--import-tokens", flags->n_counted_tokens,
                  "Tokens those counts were taken over (default: the largest count)");
}

void AddGuardFlags(CLI::App* app, ProfileFlags* flags) {
  constexpr char kGroup[] = "Perplexity";
  app->add_flag("--perplexity-only", flags->perplexity_only,
                "Only compare perplexities on the held-out text; write nothing")
      ->group(kGroup);
  app->add_flag("--guard", flags->guard_only,
                "Only measure what the modes lose on the held-out text, by the predictors and "
                "thresholds there are, and record it in the sparsity file")
      ->group(kGroup);
  app->add_option(
         "--ffn", flags->ffn,
         "With --perplexity-only: all modes that can be had (default), or dense and exact, "
         "predicted or thresholded")
      ->group(kGroup);
  app->add_option("--allowed-loss,--allow-loss", flags->allowed_loss,
                  "Relative loss of perplexity that a mode may have to be used (default: 0.01, or "
                  "--threshold-target where that is more)")
      ->group(kGroup);
  app->add_flag("--no-guard", flags->skip_guard,
                "Measure no perplexity; the modes are then refused unless their user insists")
      ->group(kGroup);
}

void AddPredictorFlags(CLI::App* app, ProfileFlags* flags) {
  constexpr char kGroup[] = "Predictors and thresholds";
  app->add_flag("--train-predictor", flags->train_predictor, "Make a predictor per layer")
      ->group(kGroup);
  app->add_option("--predictor", flags->predictor_path,
                  "The sparsity file (default: M.predictor.gguf); what it has and this run does "
                  "not make anew is kept")
      ->group(kGroup);
  app->add_flag("--replace", flags->replace, "Keep nothing of a sparsity file that is there")
      ->group(kGroup);
  app->add_option("--predictor-kind", flags->predictor_kind,
                  "trained: a small network; lowrank: from the weights, in seconds, less exact")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--recall", flags->recall, "Share of the active neurons that must be found")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--predictor-budget", flags->predictor_budget,
                  "Largest size of all predictors, as a share of the FFN's bytes")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--train-steps", flags->train_steps, "Steps of training per layer")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--sample-memory", flags->sample_memory, "Memory for what is trained on")
      ->capture_default_str()
      ->group(kGroup);
  app->add_option("--threshold-target", flags->threshold_target,
                  "Find thresholds that cost this relative loss of perplexity, e.g. 0.01")
      ->group(kGroup);
}

}  // namespace

void DescribeProfile(CLI::App* app, ProfileFlags* flags) {
  app->description(kDescription);
  AddFlags(app, flags);
  AddGuardFlags(app, flags);
  AddPredictorFlags(app, flags);
}

}  // namespace thermocline::tools
