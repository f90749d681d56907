#include "tools/profile/run.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "base/host_info.h"
#include "base/str.h"
#include "base/units.h"
#include "model/ffn_policy.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/sparsity_profile.h"
#include "tools/profile/activity_collector.h"
#include "tools/profile/guard.h"
#include "tools/profile/html_report.h"
#include "tools/profile/import_counts.h"
#include "tools/profile/progress.h"
#include "tools/profile/sparsity_file.h"
#include "tools/profile/table.h"
#include "tools/profile/text_windows.h"
#include "tools/profile/threshold_search.h"
#include "tools/profile/train_predictors.h"
#include "tools/profile/window_runner.h"

namespace thermocline::tools {
namespace {

// Masks for the union curves: enough of them that 64 draws of 64 tokens seldom repeat.
constexpr uint64_t kMaxMasks = 4096;
constexpr uint64_t kMaskBytes = 128 * kMiB;
// What an activation without exact zeros is cut at when no target for the loss is given: published
// SwiGLU models stand about half of their neurons skipped.
constexpr double kDefaultSparsity = 0.5;
// Text that thresholds are calibrated on: some ten measurements run over it.
constexpr uint64_t kCalibrationTokens = 4096;

// One run of the program; its steps in the order of RunText.
class Profiling {
 public:
  Profiling(const ProfileFlags& flags, worker::LoadedModel model, std::string fingerprint)
      : flags_(flags),
        model_(std::move(model)),
        n_threads_(flags.n_threads > 0 ? flags.n_threads : AvailableCores()),
        window_tokens_(std::min(flags.window_tokens, model_.config.n_ctx_train)) {
    profile_.fingerprint = std::move(fingerprint);
    profile_.model_name = model_.config.name;
  }

  Status RunImport() {
    std::optional<uint64_t> n_tokens;
    if (!flags_.n_counted_tokens.empty()) {
      n_tokens = static_cast<uint64_t>(ParseCount(flags_.n_counted_tokens).value());
    }
    TC_RETURN_IF_ERROR(ImportCounts(flags_.counts_dir, model_.config, n_tokens, &profile_));
    std::printf("%s", LayerTable(profile_).c_str());
    if (profile_.n_tokens_is_guess) {
      std::printf(
          "The files do not say how many tokens were counted; taken as the largest count, "
          "%llu (--import-tokens says it).\n",
          static_cast<unsigned long long>(profile_.n_tokens));
    }
    return WriteProfile();
  }

  Status RunText() {
    TC_RETURN_IF_ERROR(ReadTexts());
    if (flags_.perplexity_only) return RunPerplexity();
    // What a file beside the model says must not mix with what is measured now.
    ForgetSparsityFile();
    if (!model_.config.relu_family() || flags_.threshold_target >= 0) {
      TC_RETURN_IF_ERROR(ChooseThresholds());
    }
    TC_RETURN_IF_ERROR(Count(text_, profile_active_, &profile_.layers));
    profile_.n_tokens = text_.n_tokens();
    profile_.source = flags_.text_path;
    std::printf("%s", LayerTable(profile_).c_str());
    std::fflush(stdout);
    TC_RETURN_IF_ERROR(Predict());
    TC_RETURN_IF_ERROR(Guard());
    return WriteProfile();
  }

 private:
  GuardOptions GuardOptionsOf() const {
    return {n_threads_, window_tokens_, AllowedLoss(flags_), flags_.quiet};
  }
  std::string SparsityPath() const {
    return flags_.predictor_path.empty() ? BesideModel(flags_.model_path, ".predictor.gguf")
                                         : flags_.predictor_path;
  }

  Status ReadTexts() {
    TC_ASSIGN_OR_RETURN(const auto tokenizer, OpenTokenizer(model_));
    TC_ASSIGN_OR_RETURN(const std::string text, ReadText(flags_.text_path));
    const auto n_tokens = static_cast<uint64_t>(ParseCount(flags_.n_tokens).value());
    const auto min_tokens = static_cast<uint64_t>(window_tokens_);
    TC_ASSIGN_OR_RETURN(text_, CutWindows(*tokenizer, text, n_tokens, window_tokens_, min_tokens));
    const auto share = ParseShare(flags_.held_out);
    if (share.ok()) {
      TC_ASSIGN_OR_RETURN(held_out_, SplitHeldOut(*share, &text_));
      return OkStatus();
    }
    TC_ASSIGN_OR_RETURN(const std::string other, ReadText(flags_.held_out));
    auto cut = CutWindows(*tokenizer, other, n_tokens, window_tokens_, min_tokens);
    if (!cut.ok()) return cut.status().WithContext(flags_.held_out);
    held_out_ = std::move(cut).value();
    return OkStatus();
  }

  Status RunPerplexity() {
    const std::string path = model::FindSparsityFile(flags_.predictor_path, flags_.model_path);
    if (!path.empty()) TC_RETURN_IF_ERROR(worker::AttachSparsityFile(path, &model_));
    std::vector<model::FfnMode> modes = AvailableModes(model_);
    if (flags_.ffn != "all") {
      TC_ASSIGN_OR_RETURN(const model::FfnMode mode, model::ParseFfnMode(flags_.ffn));
      TC_RETURN_IF_ERROR(model::CheckFfnMode(model_.config, model_.sparsity, mode));
      modes = {model::FfnMode::kDense};
      if (mode != model::FfnMode::kDense) modes.push_back(mode);
    }
    TC_ASSIGN_OR_RETURN(const model::GuardRecord guard,
                        MeasureModes(model_, held_out_, modes, GuardOptionsOf()));
    std::printf("%s", GuardTable(guard).c_str());
    return OkStatus();
  }

  void ForgetSparsityFile() {
    if (model_.sparsity.is_part_of_model) return;
    model_.sparsity.layers.assign(static_cast<size_t>(model_.config.n_layer), {});
    model_.predictor_reader = nullptr;
  }

  // Runs `text` and counts; a neuron is active above its layer's threshold.
  Status Count(const TextWindows& text, const std::vector<float>& thresholds,
               std::vector<model::LayerActivity>* layers) {
    const uint64_t mask_bytes = model::ActivityMasks::BytesPerToken(model_.config.n_ff) *
                                static_cast<uint64_t>(model_.config.n_layer);
    const uint64_t n_masks = std::min(kMaxMasks, kMaskBytes / std::max<uint64_t>(1, mask_bytes));
    CollectorOptions options;
    options.active_thresholds = thresholds;
    options.masks_per_window =
        static_cast<int>(std::max<uint64_t>(1, n_masks / text.windows.size()));
    ActivityCollector collector(model_.config, options);
    RunnerOptions runner_options;
    runner_options.n_threads = n_threads_;
    runner_options.window_tokens = window_tokens_;
    runner_options.observer = &collector;
    TC_ASSIGN_OR_RETURN(const auto runner, WindowRunner::Create(model_, runner_options));
    Progress progress("counting", "tokens", text.n_tokens(), flags_.quiet);
    for (const Window& window : text.windows) {
      TC_RETURN_IF_ERROR(runner->Run(window, false));
      TC_RETURN_IF_ERROR(collector.status());
      collector.NextWindow();
      progress.Advance(window.size());
    }
    *layers = collector.Take(flags_.seed);
    return OkStatus();
  }

  // Thresholds for activations without exact zeros, from a part of the text.
  Status ChooseThresholds() {
    TextWindows part;
    for (const Window& window : text_.windows) {
      if (part.n_tokens() >= kCalibrationTokens) break;
      part.windows.push_back(window);
    }
    std::vector<model::LayerActivity> layers;
    TC_RETURN_IF_ERROR(Count(part, {}, &layers));
    if (flags_.threshold_target < 0) {
      profile_active_ = ThresholdsAt(layers, kDefaultSparsity);
      return OkStatus();
    }
    TC_ASSIGN_OR_RETURN(
        const ThresholdChoice choice,
        FindThresholds(part, layers, flags_.threshold_target, GuardOptionsOf(), &model_));
    std::printf(
        "thresholds: %.1f %% of activations are below theirs, loss %+.3f %% on %llu tokens\n",
        100 * choice.sparsity, 100 * choice.loss, static_cast<unsigned long long>(part.n_tokens()));
    content_.activation_thresholds = choice.thresholds;
    // What predictors of a model without exact zeros aim at; ReLU's zeros need no threshold.
    if (!model_.config.relu_family()) profile_active_ = choice.thresholds;
    return OkStatus();
  }

  Status Predict() {
    if (!flags_.train_predictor) return OkStatus();
    PredictorOptions options;
    options.kind = flags_.predictor_kind == "lowrank" ? model::PredictorKind::kLinear
                                                      : model::PredictorKind::kRelu;
    options.recall = flags_.recall;
    options.budget_share = flags_.predictor_budget;
    options.n_steps = flags_.train_steps;
    options.seed = flags_.seed;
    options.sample_bytes = ParseBytes(flags_.sample_memory).value();
    options.n_threads = n_threads_;
    options.window_tokens = window_tokens_;
    options.quiet = flags_.quiet;
    TC_ASSIGN_OR_RETURN(TrainedPredictors made,
                        TrainPredictors(model_, text_, profile_.layers, options));
    content_.predictors = std::move(made.stored);
    reports_ = std::move(made.reports);
    return OkStatus();
  }

  bool HasSparsityContent() const {
    return !content_.predictors.empty() || !content_.activation_thresholds.empty();
  }

  // Writes the sparsity file, measures what its modes lose, and writes it again with that.
  Status Guard() {
    content_.fingerprint = profile_.fingerprint;
    content_.source = Str(profile_.source, ", ", profile_.n_tokens, " tokens");
    if (HasSparsityContent()) {
      TC_RETURN_IF_ERROR(WriteSparsityFile(content_, SparsityPath()));
      TC_RETURN_IF_ERROR(worker::AttachSparsityFile(SparsityPath(), &model_));
    }
    if (!reports_.empty()) {
      TC_RETURN_IF_ERROR(MeasurePredictorTime());
      std::printf("\n%s", PredictorTable(reports_).c_str());
    }
    if (flags_.skip_guard) {
      if (HasSparsityContent()) std::printf("\nwritten: %s\n", SparsityPath().c_str());
      return OkStatus();
    }
    TC_ASSIGN_OR_RETURN(profile_.guard,
                        MeasureModes(model_, held_out_, AvailableModes(model_), GuardOptionsOf()));
    std::printf("\n%s", GuardTable(profile_.guard).c_str());
    if (!HasSparsityContent()) return OkStatus();
    RecordLosses();
    TC_RETURN_IF_ERROR(WriteSparsityFile(content_, SparsityPath()));
    std::printf("\nwritten: %s\n", SparsityPath().c_str());
    return OkStatus();
  }

  // A loss over a few tokens is noise, which may even look like a gain: it is not recorded, and
  // modes whose loss is unknown are refused when the model is run.
  void RecordLosses() {
    constexpr uint64_t kMinTokens = 256;
    if (profile_.guard.n_tokens < kMinTokens) {
      std::printf(
          "\nthe losses are not recorded: %llu held-out tokens are too few to judge by, %llu are "
          "needed; give a longer text or --held-out FILE\n",
          static_cast<unsigned long long>(profile_.guard.n_tokens),
          static_cast<unsigned long long>(kMinTokens));
      return;
    }
    content_.guard.predicted = LossOf(profile_.guard, model::FfnMode::kPredicted);
    content_.guard.thresholded = LossOf(profile_.guard, model::FfnMode::kThresholded);
    content_.guard.allowed = static_cast<float>(AllowedLoss(flags_));
  }

  Status MeasurePredictorTime() {
    if (!model_.sparsity.has_predictors()) return OkStatus();
    TC_ASSIGN_OR_RETURN(const std::vector<double> shares,
                        PredictorTimeShares(model_, held_out_, GuardOptionsOf()));
    for (size_t i = 0; i < shares.size(); ++i) reports_[i].time_share = shares[i];
    return OkStatus();
  }

  Status WriteProfile() {
    const std::string path = flags_.output_path.empty()
                                 ? BesideModel(flags_.model_path, ".profile.gguf")
                                 : flags_.output_path;
    TC_RETURN_IF_ERROR(model::WriteSparsityProfile(profile_, path));
    std::printf("written: %s\n", path.c_str());
    if (flags_.html_path.empty()) return OkStatus();
    TC_RETURN_IF_ERROR(WriteTextFile(flags_.html_path, HtmlReport(profile_, reports_)));
    std::printf("written: %s\n", flags_.html_path.c_str());
    return OkStatus();
  }

  const ProfileFlags& flags_;
  worker::LoadedModel model_;
  const int n_threads_;
  const int window_tokens_;
  TextWindows text_, held_out_;
  std::vector<float> profile_active_;  // thresholds of what counts as active; empty: exact zeros
  model::SparsityProfile profile_;
  SparsityContent content_;
  std::vector<PredictorReport> reports_;
};

}  // namespace

Status RunProfile(const ProfileFlags& flags) {
  TC_RETURN_IF_ERROR(CheckProfileFlags(flags));
  TC_ASSIGN_OR_RETURN(worker::LoadedModel model, worker::OpenModel(flags.model_path));
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(*model.reader));
  TC_ASSIGN_OR_RETURN(std::string fingerprint, model::FingerprintOf(*model.reader, file));
  Profiling profiling(flags, std::move(model), std::move(fingerprint));
  return flags.counts_dir.empty() ? profiling.RunText() : profiling.RunImport();
}

}  // namespace thermocline::tools
