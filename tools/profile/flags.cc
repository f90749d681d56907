#include "tools/profile/flags.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "model/ffn_mode.h"

namespace thermocline::tools {
namespace {

constexpr int kMinWindow = 16;    // fewer tokens give a model no context to speak of
constexpr int kMaxWindow = 8192;  // rows of scratch: 8192 * 16384 floats is 512 MiB
constexpr int kMaxSteps = 1'000'000;
constexpr int64_t kMaxCounted = std::numeric_limits<int32_t>::max();  // the file format's limit

template <typename T>
Status CheckRange(const char* flag, T value, T low, T high) {
  if (value >= low && value <= high) return OkStatus();
  return InvalidArgument(
      Str(flag, " out of range:", Kv("value", value), Kv("min", low), Kv("max", high)));
}

Status CheckSource(const ProfileFlags& flags) {
  if (flags.counts_dir.empty() == flags.text_path.empty()) {
    return InvalidArgument("give either --text FILE or --import-counts DIR");
  }
  if (flags.counts_dir.empty()) return OkStatus();
  if (flags.train_predictor || flags.perplexity_only || flags.threshold_target) {
    return InvalidArgument(
        "--import-counts brings counts only; predictors, thresholds and "
        "perplexity need --text");
  }
  return OkStatus();
}

// --guard and --perplexity-only measure what there is, and do nothing else.
Status CheckMeasureOnly(const ProfileFlags& flags) {
  const char* const only = flags.guard_only        ? "--guard"
                           : flags.perplexity_only ? "--perplexity-only"
                                                   : nullptr;
  if (only == nullptr) return OkStatus();
  const std::pair<bool, const char*> others[] = {
      {flags.train_predictor, "--train-predictor"},
      {flags.threshold_target.has_value(), "--threshold-target"},
      {flags.guard_only && flags.perplexity_only, "--perplexity-only"},
      {flags.skip_guard, "--no-guard"},
      {flags.perplexity_only && flags.replace, "--replace"},
      {flags.perplexity_only && !flags.html_path.empty(), "--html"},
      {flags.perplexity_only && !flags.output_path.empty(), "--output"},
      {!flags.counts_dir.empty(), "--import-counts"}};
  for (const auto& [is_given, flag] : others) {
    if (is_given) return InvalidArgument(Str(only, " cannot be combined with ", flag));
  }
  return OkStatus();
}

// --ffn chooses what --perplexity-only compares; every other run measures all modes there are.
Status CheckFfn(const ProfileFlags& flags) {
  if (flags.ffn.empty()) return OkStatus();
  if (!flags.perplexity_only) {
    return InvalidArgument(Str("--ffn is of --perplexity-only; other runs measure every mode:",
                               Kv("ffn", Printable(flags.ffn))));
  }
  return flags.ffn == "all" ? OkStatus() : model::ParseFfnMode(flags.ffn).status();
}

}  // namespace

Status CheckProfileFlags(const ProfileFlags& flags) {
  TC_RETURN_IF_ERROR(CheckMeasureOnly(flags));
  TC_RETURN_IF_ERROR(CheckSource(flags));
  TC_RETURN_IF_ERROR(CheckRange("--window", flags.window_tokens, kMinWindow, kMaxWindow));
  TC_RETURN_IF_ERROR(CheckRange("--threads", flags.n_threads, 0, 4096));
  TC_RETURN_IF_ERROR(CheckRange("--recall", flags.recall, 0.5, 1.0));
  TC_RETURN_IF_ERROR(CheckRange("--predictor-budget", flags.predictor_budget, 0.0, 1.0));
  TC_RETURN_IF_ERROR(CheckRange("--train-steps", flags.train_steps, 1, kMaxSteps));
  TC_RETURN_IF_ERROR(CheckRange("--allowed-loss", AllowedLoss(flags), 0.0, 10.0));
  if (flags.threshold_target) {
    TC_RETURN_IF_ERROR(CheckRange("--threshold-target", *flags.threshold_target, 0.0, 10.0));
  }
  if (flags.predictor_kind != "trained" && flags.predictor_kind != "lowrank") {
    return InvalidArgument(Str("unknown --predictor-kind \"", Printable(flags.predictor_kind),
                               "\"; one of trained lowrank"));
  }
  TC_RETURN_IF_ERROR(CheckFfn(flags));
  const auto n_tokens = ParseCount(flags.n_tokens);
  if (!n_tokens.ok()) return n_tokens.status().WithContext("--tokens");
  if (*n_tokens < 1)
    return InvalidArgument(Str("--tokens must be positive:", Kv("tokens", *n_tokens)));
  if (!flags.n_counted_tokens.empty()) {
    const auto n_counted = ParseCount(flags.n_counted_tokens);
    if (!n_counted.ok()) return n_counted.status().WithContext("--import-tokens");
    TC_RETURN_IF_ERROR(CheckRange("--import-tokens", *n_counted, int64_t{1}, kMaxCounted));
  }
  const auto memory = ParseBytes(flags.sample_memory);
  if (!memory.ok()) return memory.status().WithContext("--sample-memory");
  const auto share = ParseShare(flags.held_out);
  if (share.ok() && (*share <= 0 || *share >= 1)) {
    return InvalidArgument(
        Str("--held-out as a share must lie between 0 and 1:", Kv("share", *share)));
  }
  return OkStatus();
}

double AllowedLoss(const ProfileFlags& flags) {
  constexpr double kDefault = 0.01;
  return flags.allowed_loss.value_or(std::max(kDefault, flags.threshold_target.value_or(0)));
}

Result<double> ParseShare(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc() && end == text.data() + text.size()) return value;
  return InvalidArgument(Str("not a number: ", Printable(text)));
}

}  // namespace thermocline::tools
