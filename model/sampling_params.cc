#include "model/sampling_params.h"

#include <cmath>

#include "base/str.h"

namespace thermocline::model {
namespace {

// OpenAI's range of a logit bias.
constexpr float kMaxAbsLogitBias = 100.0f;

Status OutOfRange(const char* name, double value, const char* range) {
  return InvalidArgument(Str(name, " must be in ", range, ":", Kv(name, value)));
}

// False for NaN too.
bool Within(float value, float min, float max) { return value >= min && value <= max; }

Status ValidateLogitBias(const std::vector<std::pair<int32_t, float>>& bias) {
  if (bias.size() > static_cast<size_t>(kMaxLogitBias)) {
    return InvalidArgument(
        Str("too many entries in logit_bias:", Kv("count", bias.size()), Kv("max", kMaxLogitBias)));
  }
  for (const auto& [token, value] : bias) {
    if (token < 0) return InvalidArgument(Str("negative token in logit_bias:", Kv("token", token)));
    if (!Within(value, -kMaxAbsLogitBias, kMaxAbsLogitBias)) {
      return OutOfRange("logit_bias", value, "[-100, 100]");
    }
  }
  return OkStatus();
}

}  // namespace

Status SamplingParams::Validate() const {
  // No upper bound on temperature: OpenAI stops at 2, vLLM and llama.cpp do not.
  if (!(temperature >= 0) || !std::isfinite(temperature)) {
    return OutOfRange("temperature", temperature, "[0, inf)");
  }
  if (!(top_p > 0) || top_p > 1) return OutOfRange("top_p", top_p, "(0, 1]");
  if (!Within(min_p, 0, 1)) return OutOfRange("min_p", min_p, "[0, 1]");
  if (!Within(presence_penalty, -2, 2)) {
    return OutOfRange("presence_penalty", presence_penalty, "[-2, 2]");
  }
  if (!Within(frequency_penalty, -2, 2)) {
    return OutOfRange("frequency_penalty", frequency_penalty, "[-2, 2]");
  }
  if (!(repetition_penalty > 0) || !std::isfinite(repetition_penalty)) {
    return OutOfRange("repetition_penalty", repetition_penalty, "(0, inf)");
  }
  if (n_logprobs < -1 || n_logprobs > kMaxLogprobs) {
    return OutOfRange("logprobs", n_logprobs, "[0, 20]");
  }
  if (n_prompt_logprobs < -1 || n_prompt_logprobs > kMaxLogprobs) {
    return OutOfRange("prompt_logprobs", n_prompt_logprobs, "[0, 20]");
  }
  for (const int32_t id : banned_ids) {
    if (id < 0) return InvalidArgument(Str("negative token in banned_ids:", Kv("token", id)));
  }
  return ValidateLogitBias(logit_bias);
}

}  // namespace thermocline::model
