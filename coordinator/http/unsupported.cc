#include "coordinator/http/unsupported.h"

#include <nlohmann/json.hpp>

#include "base/str.h"

namespace thermocline::coordinator::http {
namespace {

using nlohmann::json;

// Null, false, 0, "", [] and {} ask for nothing.
bool IsEmpty(const json& value) {
  if (value.is_boolean()) return !value.get<bool>();
  if (value.is_number()) return value.get<double>() == 0;
  if (value.is_string()) return value.get_ref<const std::string&>().empty();
  return value.empty();
}

bool IsNoTool(const json& value) { return IsEmpty(value) || value == "none" || value == "auto"; }

bool IsOne(const json& value) { return IsEmpty(value) || value == 1; }

bool IsPlainText(const json& value) {
  return IsEmpty(value) || (value.is_object() && value.value("type", json()) == "text");
}

bool IsTextOnly(const json& value) { return IsEmpty(value) || value == json::array({"text"}); }

struct Feature {
  const char* name;
  bool (*is_neutral)(const json& value);
};

constexpr Feature kFeatures[] = {
    // OpenAI
    {"tools", IsEmpty},
    {"tool_choice", IsNoTool},
    {"functions", IsEmpty},
    {"function_call", IsNoTool},
    {"response_format", IsPlainText},
    {"modalities", IsTextOnly},
    {"audio", IsEmpty},
    {"prediction", IsEmpty},
    {"web_search_options", IsEmpty},
    {"suffix", IsEmpty},
    {"best_of", IsOne},
    // vLLM
    {"guided_json", IsEmpty},
    {"guided_regex", IsEmpty},
    {"guided_choice", IsEmpty},
    {"guided_grammar", IsEmpty},
    {"structured_outputs", IsEmpty},
    {"use_beam_search", IsEmpty},
    {"prompt_embeds", IsEmpty},
    {"prompt_logprobs", IsEmpty},
    {"chat_template", IsEmpty},
    {"continue_final_message", IsEmpty},
    {"include_stop_str_in_output", IsEmpty},
    {"allowed_token_ids", IsEmpty},
    {"bad_words", IsEmpty},
    {"truncate_prompt_tokens", IsEmpty},
    {"logits_processors", IsEmpty},
    // llama-server
    {"lora", IsEmpty},
    {"grammar", IsEmpty},
    {"json_schema", IsEmpty},
    {"mirostat", IsEmpty},
    {"typical_p", IsOne},
    {"dry_multiplier", IsEmpty},
    {"xtc_probability", IsEmpty},
    {"dynatemp_range", IsEmpty},
};

}  // namespace

std::optional<ApiError> FindUnsupported(const json& body) {
  for (const Feature& feature : kFeatures) {
    const auto it = body.find(feature.name);
    if (it == body.end() || feature.is_neutral(*it)) continue;
    return BadParameter(feature.name, Str(feature.name, " is not supported by this server"),
                        kUnsupportedCode);
  }
  return std::nullopt;
}

}  // namespace thermocline::coordinator::http
