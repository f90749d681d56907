#include "coordinator/http/unsupported.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/log.h"
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

// Spellings of what another member says already, and what clients tell their provider about
// themselves, their bills and caches.
constexpr const char* kWithoutEffect[] = {"max_tokens",       "max_completion_tokens",
                                          "n_predict",        "user",
                                          "metadata",         "store",
                                          "service_tier",     "safety_identifier",
                                          "prompt_cache_key", "parallel_tool_calls",
                                          "verbosity",        "reasoning_effort",
                                          "cache_prompt",     "id_slot"};

// Of one request, and of all: clients that invent names must not fill the log.
constexpr size_t kMaxUnknown = 8;
constexpr size_t kMaxSaid = 64;

template <typename List>
bool Contains(const List& list, const std::string& name) {
  return std::any_of(std::begin(list), std::end(list), [&](const auto& entry) {
    if constexpr (requires { entry.name; }) {
      return name == entry.name;
    } else {
      return name == entry;
    }
  });
}

}  // namespace

std::vector<std::string> FindUnknown(const json& body, const FieldReader& reader) {
  std::vector<std::string> unknown;
  for (const auto& member : body.items()) {
    if (unknown.size() == kMaxUnknown) break;
    const std::string& name = member.key();
    const bool is_known =
        reader.HasAskedFor(name) || Contains(kFeatures, name) || Contains(kWithoutEffect, name);
    if (!is_known) unknown.push_back(name);
  }
  return unknown;
}

void UnknownFieldLog::Warn(const std::vector<std::string>& names) {
  const MutexLock lock(mutex_);
  for (const std::string& name : names) {
    if (said_.size() >= kMaxSaid || !said_.insert(name).second) continue;
    LogWarn("http", Str("requests have a field that nothing here knows, and it has no effect: ",
                        Printable(name, 64)));
  }
}

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
