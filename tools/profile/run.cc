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
#include "model/file_names.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/sparsity_profile.h"
#include "tools/output_path.h"
#include "tools/profile/count_activity.h"
#include "tools/profile/guard.h"
#include "tools/profile/html_report.h"
#include "tools/profile/import_counts.h"
#include "tools/profile/sparsity_update.h"
#include "tools/profile/table.h"
#include "tools/profile/text_windows.h"
#include "tools/profile/threshold_search.h"
#include "tools/profile/train_predictors.h"

namespace thermocline::tools {
namespace {

// What an activation without exact zeros is cut at when no target for the loss is given: published
// SwiGLU models stand about half of their neurons skipped.
constexpr double kDefaultSparsity = 0.5;
// Text that thresholds are calibrated on: some ten measurements run over it.
constexpr uint64_t kCalibrationTokens = 4096;
// A loss over fewer tokens is noise, which may even look like a gain: it is not recorded, and modes
// whose loss is unknown are refused when the model is run.
constexpr uint64_t kMinGuardTokens = 256;

// One run of the program; its steps in the order of RunText.
class Profiling {
 public:
  Profiling(const ProfileFlags& flags, worker::LoadedModel model, std::string fingerprint)
      : flags_(flags),
        made_{flags.train_predictor, flags.threshold_target.has_value()},
        model_(std::move(model)),
        n_threads_(flags.n_threads > 0 ? flags.n_threads : AvailableCores()),
        window_tokens_(std::min(flags.window_tokens, model_.config.n_ctx_train)) {
    profile_.fingerprint = std::move(fingerprint);
    profile_.model_name = model_.config.name;
  }

  // Before anything that takes time.
  Status Begin() {
    TC_RETURN_IF_ERROR(CheckOutputs(Outputs(), Inputs()));
    if (!WritesSparsity()) return OkStatus();
    TC_ASSIGN_OR_RETURN(update_, SparsityUpdate::Open(SparsityPath(), model_.config,
                                                      profile_.fingerprint, made_, flags_.replace));
    return OkStatus();
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
    if (flags_.guard_only) return RunGuard();
    TC_RETURN_IF_ERROR(ChooseThresholds());
    TC_ASSIGN_OR_RETURN(profile_.layers, Count(text_, profile_active_));
    profile_.n_tokens = text_.n_tokens();
    profile_.source = flags_.text_path;
    std::printf("%s", LayerTable(profile_).c_str());
    std::fflush(stdout);
    TC_RETURN_IF_ERROR(Predict());
    TC_RETURN_IF_ERROR(Guard());
    return WriteProfile();
  }

 private:
  double AllowedLossNow() const {
    const double allowed = AllowedLoss(flags_);
    const bool is_given = flags_.allowed_loss.has_value();
    if (is_given || !update_) return allowed;
    return std::max(allowed, static_cast<double>(update_->allowed_loss().value_or(0)));
  }
  GuardOptions GuardOptionsOf() const {
    return {n_threads_, window_tokens_, AllowedLossNow(), flags_.quiet};
  }
  bool MakesParts() const { return made_.predictors || made_.thresholds; }
  bool WritesSparsity() const {
    if (flags_.perplexity_only || !flags_.counts_dir.empty()) return false;
    const bool has_own = model_.sparsity.has_predictors();
    return MakesParts() || flags_.guard_only || (has_own && !flags_.skip_guard);
  }
  std::string ProfilePath() const {
    return flags_.output_path.empty() ? model::ProfilePathOf(flags_.model_path)
                                      : flags_.output_path;
  }
  std::string SparsityPath() const {
    return flags_.predictor_path.empty() ? model::SparsityPathOf(flags_.model_path)
                                         : flags_.predictor_path;
  }

  std::vector<NamedPath> Inputs() const {
    std::vector<NamedPath> inputs = {{"--model", flags_.model_path}};
    if (!flags_.text_path.empty()) inputs.push_back({"--text", flags_.text_path});
    if (!ParseShare(flags_.held_out).ok()) inputs.push_back({"--held-out", flags_.held_out});
    return inputs;
  }
  std::vector<NamedPath> Outputs() const {
    std::vector<NamedPath> outputs;
    if (!flags_.perplexity_only && !flags_.guard_only) {
      outputs.push_back({"--output", ProfilePath()});
      if (!flags_.html_path.empty()) outputs.push_back({"--html", flags_.html_path});
    }
    if (WritesSparsity()) outputs.push_back({"--predictor", SparsityPath()});
    return outputs;
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
    if (!flags_.ffn.empty() && flags_.ffn != "all") {
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

  // The losses of what is there.
  Status RunGuard() {
    if (!update_->kept_text().empty()) {
      TC_RETURN_IF_ERROR(worker::AttachSparsityFile(SparsityPath(), &model_));
    }
    if (!model_.sparsity.has_predictors() && !model_.sparsity.has_thresholds()) {
      return InvalidArgument(Str("nothing to measure: neither ", flags_.model_path, " nor ",
                                 SparsityPath(),
                                 " has predictors or thresholds; "
                                 "--train-predictor and --threshold-target make them"));
    }
    update_->SetSource(Str("losses on ", flags_.text_path));
    TC_RETURN_IF_ERROR(MeasureLosses());
    if (profile_.guard.n_tokens < kMinGuardTokens) return InvalidArgument(TooFewTokens());
    return RecordLosses();
  }

  Result<std::vector<model::LayerActivity>> Count(const TextWindows& text,
                                                  const std::vector<float>& thresholds) const {
    return CountActivity(model_, text, thresholds,
                         {n_threads_, window_tokens_, flags_.seed, flags_.quiet});
  }

  // What counts as active where nothing is exactly 0, and the thresholds asked for; both from a
  // part of the text.
  Status ChooseThresholds() {
    if (!made_.thresholds && model_.config.relu_family()) return OkStatus();
    if (!made_.thresholds && update_ && !update_->thresholds().empty()) {
      profile_active_ = update_->thresholds();
      return OkStatus();
    }
    TextWindows part;
    for (const Window& window : text_.windows) {
      if (part.n_tokens() >= kCalibrationTokens) break;
      part.windows.push_back(window);
    }
    TC_ASSIGN_OR_RETURN(const std::vector<model::LayerActivity> layers, Count(part, {}));
    if (!made_.thresholds) {
      profile_active_ = ThresholdsAt(layers, kDefaultSparsity);
      return OkStatus();
    }
    TC_ASSIGN_OR_RETURN(
        const ThresholdChoice choice,
        FindThresholds(part, layers, *flags_.threshold_target, GuardOptionsOf(), &model_));
    std::printf(
        "thresholds: %.1f %% of activations are below theirs, loss %+.3f %% on %llu tokens\n",
        100 * choice.sparsity, 100 * choice.loss, static_cast<unsigned long long>(part.n_tokens()));
    update_->SetThresholds(choice.thresholds);
    // What predictors of a model without exact zeros aim at; ReLU's zeros need no threshold.
    if (!model_.config.relu_family()) profile_active_ = choice.thresholds;
    return OkStatus();
  }

  Status Predict() {
    if (!made_.predictors) return OkStatus();
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
    update_->SetPredictors(std::move(made.stored));
    reports_ = std::move(made.reports);
    return OkStatus();
  }

  // Writes the sparsity file, measures what its modes lose, and writes it again with that.
  Status Guard() {
    if (update_) update_->SetSource(Str(profile_.source, ", ", profile_.n_tokens, " tokens"));
    if (MakesParts()) TC_RETURN_IF_ERROR(update_->Write());
    if (MakesParts() || (update_ && !update_->kept_text().empty())) {
      TC_RETURN_IF_ERROR(worker::AttachSparsityFile(SparsityPath(), &model_));
    }
    if (!reports_.empty()) {
      TC_RETURN_IF_ERROR(MeasurePredictorTime());
      std::printf("\n%s", PredictorTable(reports_).c_str());
    }
    if (flags_.skip_guard) {
      if (MakesParts()) PrintWritten();
      return OkStatus();
    }
    TC_RETURN_IF_ERROR(MeasureLosses());
    if (!update_) return OkStatus();
    if (profile_.guard.n_tokens >= kMinGuardTokens) return RecordLosses();
    std::printf("\n%s\n", TooFewTokens().c_str());
    if (MakesParts()) PrintWritten();
    return OkStatus();
  }

  Status MeasureLosses() {
    TC_ASSIGN_OR_RETURN(profile_.guard,
                        MeasureModes(model_, held_out_, AvailableModes(model_), GuardOptionsOf()));
    std::printf("\n%s", GuardTable(profile_.guard).c_str());
    return OkStatus();
  }

  Status RecordLosses() {
    update_->RecordLosses(profile_.guard);
    TC_RETURN_IF_ERROR(update_->Write());
    PrintWritten();
    return OkStatus();
  }

  std::string TooFewTokens() const {
    return Str("the losses are not recorded: ", profile_.guard.n_tokens,
               " held-out tokens are too few to judge by, ", kMinGuardTokens,
               " are needed; give a longer text or --held-out FILE");
  }

  void PrintWritten() const {
    const std::string& kept = update_->kept_text();
    std::printf(
        "\nwritten: %s%s\n", SparsityPath().c_str(),
        kept.empty() ? "" : Str(", with the ", kept, " it had (--replace drops them)").c_str());
  }

  Status MeasurePredictorTime() {
    if (!model_.sparsity.has_predictors()) return OkStatus();
    TC_ASSIGN_OR_RETURN(const std::vector<double> shares,
                        PredictorTimeShares(model_, held_out_, GuardOptionsOf()));
    for (size_t i = 0; i < shares.size(); ++i) reports_[i].time_share = shares[i];
    return OkStatus();
  }

  Status WriteProfile() {
    const std::string path = ProfilePath();
    TC_RETURN_IF_ERROR(model::WriteSparsityProfile(profile_, path));
    std::printf("written: %s\n", path.c_str());
    if (flags_.html_path.empty()) return OkStatus();
    TC_RETURN_IF_ERROR(WriteTextFile(flags_.html_path, HtmlReport(profile_, reports_)));
    std::printf("written: %s\n", flags_.html_path.c_str());
    return OkStatus();
  }

  const ProfileFlags& flags_;
  const SparsityParts made_;
  worker::LoadedModel model_;
  const int n_threads_;
  const int window_tokens_;
  TextWindows text_, held_out_;
  std::vector<float> profile_active_;  // thresholds of what counts as active; empty: exact zeros
  model::SparsityProfile profile_;
  std::optional<SparsityUpdate> update_;  // when a sparsity file is written
  std::vector<PredictorReport> reports_;
};

}  // namespace

Status RunProfile(const ProfileFlags& flags) {
  TC_RETURN_IF_ERROR(CheckProfileFlags(flags));
  TC_ASSIGN_OR_RETURN(worker::LoadedModel model, worker::OpenModelInFileOrder(flags.model_path));
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(*model.reader));
  TC_ASSIGN_OR_RETURN(std::string fingerprint, model::FingerprintOf(*model.reader, file));
  Profiling profiling(flags, std::move(model), std::move(fingerprint));
  TC_RETURN_IF_ERROR(profiling.Begin());
  return flags.counts_dir.empty() ? profiling.RunText() : profiling.RunImport();
}

}  // namespace thermocline::tools
