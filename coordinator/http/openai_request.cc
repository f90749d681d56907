#include "coordinator/http/openai_request.h"

#include <cmath>

#include "base/str.h"
#include "coordinator/http/field_reader.h"
#include "coordinator/http/unsupported.h"
#include "model/text_decoder.h"

namespace thermocline::coordinator::http {
namespace {

using nlohmann::json;

// Longest useful generation; larger values mean "until the context is full" anyway.
constexpr int64_t kMaxTokensLimit = int64_t{1} << 30;
// OpenAI accepts top_p 0 as "the best token only", which the sampler's range (0, 1] excludes.
constexpr float kSmallestTopP = 1e-6f;

struct FloatField {
  const char* name;
  float model::SamplingParams::*member;
  double min, max;
};

// Ranges: OpenAI's where it has the parameter, except temperature, which vLLM and llama.cpp leave
// open above 2; repetition penalties are positive.
constexpr FloatField kFloatFields[] = {
    {"temperature", &model::SamplingParams::temperature, 0, 100},
    {"top_p", &model::SamplingParams::top_p, 0, 1},
    {"min_p", &model::SamplingParams::min_p, 0, 1},
    {"presence_penalty", &model::SamplingParams::presence_penalty, -2, 2},
    {"frequency_penalty", &model::SamplingParams::frequency_penalty, -2, 2},
    {"repeat_penalty", &model::SamplingParams::repetition_penalty, 1e-3, 100},
    {"repetition_penalty", &model::SamplingParams::repetition_penalty, 1e-3, 100},
};

bool ReadTokenId(FieldReader& reader, const std::string& param, const json& value, int n_vocab,
                 int32_t* id) {
  const std::optional<int64_t> number = AsInteger(value);
  if (!number || *number < 0 || *number >= n_vocab) {
    reader.Fail(param, Str(param, " must hold token ids in [0, ", n_vocab,
                           "): value=", Printable(value.dump(-1, ' ', true), 40)));
    return false;
  }
  *id = static_cast<int32_t>(*number);
  return true;
}

bool ReadTokenIds(FieldReader& reader, const std::string& param, const json& array, int n_vocab,
                  TokenIds* ids) {
  ids->resize(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    if (!ReadTokenId(reader, param, array[i], n_vocab, &(*ids)[i])) return false;
  }
  return true;
}

void ReadStop(FieldReader& reader, std::vector<std::string>* stop) {
  const json* value = reader.Find("stop");
  if (!value) return;
  if (value->is_string()) {
    // Several clients send "" for "none".
    if (!value->get_ref<const std::string&>().empty()) stop->push_back(value->get<std::string>());
  } else if (value->is_array()) {
    for (const json& item : *value) {
      if (!item.is_string()) return reader.Fail("stop", "stop must be a string or strings");
      stop->push_back(item.get<std::string>());
    }
  } else {
    return reader.Fail("stop", "stop must be a string or an array of strings");
  }
  const auto matcher = model::StopMatcher::Create(*stop);
  if (!matcher.ok()) reader.Fail("stop", matcher.status().message());
}

void ReadStopTokenIds(FieldReader& reader, int n_vocab, TokenIds* ids) {
  const json* value = reader.Find("stop_token_ids");
  if (!value) return;
  if (!value->is_array() || value->size() > kMaxStopTokenIds) {
    return reader.Fail("stop_token_ids", Str("stop_token_ids must be an array of at most ",
                                             kMaxStopTokenIds, " token ids"));
  }
  ReadTokenIds(reader, "stop_token_ids", *value, n_vocab, ids);
}

// One bias. llama-server's `false` bans the token.
bool ReadBias(FieldReader& reader, const json& id, const json& bias, int n_vocab,
              model::SamplingParams* sampling) {
  int32_t token = 0;
  if (!ReadTokenId(reader, "logit_bias", id, n_vocab, &token)) return false;
  const bool banned = bias.is_boolean() && !bias.get<bool>();
  const double value = banned ? -100 : bias.is_number() ? bias.get<double>() : NAN;
  if (!(value >= -100 && value <= 100)) {
    reader.Fail("logit_bias", Str("logit_bias must be in [-100, 100]:", Kv("token", token)));
    return false;
  }
  sampling->logit_bias.emplace_back(token, static_cast<float>(value));
  return true;
}

// {"123": -1.5} as OpenAI has it, or [[123, -1.5]] as llama-server also takes it.
void ReadLogitBias(FieldReader& reader, int n_vocab, model::SamplingParams* sampling) {
  const json* value = reader.Find("logit_bias");
  if (!value) return;
  if (!value->is_object() && !value->is_array()) {
    return reader.Fail("logit_bias", "logit_bias must map token ids to numbers");
  }
  if (value->size() > static_cast<size_t>(model::kMaxLogitBias)) {
    return reader.Fail("logit_bias",
                       Str("too many entries in logit_bias:", Kv("count", value->size()),
                           Kv("max", model::kMaxLogitBias)));
  }
  for (const auto& item : value->items()) {
    if (value->is_object()) {
      json id = json::parse(item.key(), nullptr, /*allow_exceptions=*/false);
      if (id.is_discarded()) id = item.key();
      if (!ReadBias(reader, id, item.value(), n_vocab, sampling)) return;
      continue;
    }
    const json& pair = item.value();
    if (!pair.is_array() || pair.size() != 2) {
      return reader.Fail("logit_bias", "an entry of logit_bias must be [token id, bias]");
    }
    if (!ReadBias(reader, pair[0], pair[1], n_vocab, sampling)) return;
  }
}

void ReadStreamOptions(FieldReader& reader, GenerationOptions* options) {
  reader.Bool("stream", &options->stream);
  const json* value = reader.Find("stream_options");
  if (!value) return;
  if (!value->is_object()) return reader.Fail("stream_options", "stream_options must be an object");
  FieldReader nested(*value);
  nested.Bool("include_usage", &options->include_usage);
  nested.Bool("continuous_usage_stats", &options->continuous_usage_stats);
  if (!nested.ok()) reader.Fail("stream_options." + nested.error()->param, nested.error()->message);
}

// The first of the names that is present wins; -1 is llama.cpp's "until the context is full".
void ReadMaxTokens(FieldReader& reader, int default_max, GenerationOptions* options) {
  options->max_tokens = default_max;
  for (const char* name : {"max_completion_tokens", "max_tokens", "n_predict"}) {
    std::optional<int64_t> number;
    reader.Int(name, -1, kMaxTokensLimit, &number);
    if (!number) continue;
    options->max_tokens = static_cast<int>(*number);
    return;
  }
}

void ReadSampling(FieldReader& reader, int n_vocab, GenerationOptions* options) {
  for (const FloatField& field : kFloatFields) {
    reader.Float(field.name, field.min, field.max, &(options->sampling.*field.member));
  }
  options->sampling.top_p = std::max(options->sampling.top_p, kSmallestTopP);
  reader.Int("top_k", INT32_MIN, INT32_MAX, &options->sampling.top_k);
  std::optional<int64_t> seed;
  reader.Int("seed", INT64_MIN, INT64_MAX, &seed);
  if (seed && *seed != -1) options->seed = static_cast<uint64_t>(*seed);
  ReadLogitBias(reader, n_vocab, &options->sampling);
}

void ReadCommon(FieldReader& reader, int n_vocab, int default_max, GenerationOptions* options) {
  reader.String("model", &options->model);
  ReadStreamOptions(reader, options);
  ReadMaxTokens(reader, default_max, options);
  reader.Int("min_tokens", 0, kMaxTokensLimit, &options->min_tokens);
  reader.Int("n", 1, kMaxChoices, &options->n);
  reader.Bool("ignore_eos", &options->ignore_eos);
  reader.Bool("return_token_ids", &options->return_token_ids);
  reader.Bool("return_tokens", &options->return_token_ids);
  ReadSampling(reader, n_vocab, options);
  ReadStop(reader, &options->stop);
  ReadStopTokenIds(reader, n_vocab, &options->stop_token_ids);
  if (options->max_tokens >= 0 && options->min_tokens > options->max_tokens) {
    reader.Fail("min_tokens",
                Str("min_tokens is above max_tokens:", Kv("min_tokens", options->min_tokens),
                    Kv("max_tokens", options->max_tokens)));
  }
}

// A string, token ids, or an array of either.
void ReadPrompts(FieldReader& reader, int n_vocab, std::vector<Prompt>* prompts) {
  const json* value = reader.Find("prompt");
  if (!value) return reader.Fail("prompt", "prompt is missing", kMissingCode);
  const auto read_one = [&](const json& item) {
    TokenIds ids;
    if (item.is_string()) {
      prompts->emplace_back(item.get<std::string>());
    } else if (!item.is_array()) {
      reader.Fail("prompt", "prompt must be a string, token ids, or an array of either");
    } else if (ReadTokenIds(reader, "prompt", item, n_vocab, &ids)) {
      prompts->emplace_back(std::move(ids));
    }
  };
  const bool is_list = value->is_array() && !value->empty() && !value->front().is_number();
  if (!is_list) return read_one(*value);
  if (value->size() > kMaxPrompts) {
    return reader.Fail(
        "prompt", Str("too many prompts:", Kv("count", value->size()), Kv("max", kMaxPrompts)));
  }
  for (const json& item : *value) {
    read_one(item);
    if (!reader.ok()) return;
  }
}

void CheckSequences(FieldReader& reader, const CompletionRequest& request) {
  const size_t count = request.prompts.size() * static_cast<size_t>(request.options.n);
  if (count > kMaxSequences) {
    reader.Fail("n", Str("too many sequences, prompts times n:", Kv("count", count),
                         Kv("max", kMaxSequences)));
  }
}

// `content` as a string, null, or an array of text parts, which are joined.
void ReadContent(FieldReader& reader, const std::string& param, const json& content,
                 std::string* out) {
  if (content.is_null()) return;
  if (content.is_string()) {
    *out = content.get<std::string>();
    return;
  }
  if (!content.is_array())
    return reader.Fail(param, "content must be a string or an array of parts");
  for (const json& part : content) {
    const bool is_text = part.is_object() && part.value("type", json()) == "text";
    if (!is_text) {
      return reader.Fail(param, "only content parts of type text are supported", kUnsupportedCode);
    }
    const auto text = part.find("text");
    if (text == part.end() || !text->is_string()) {
      return reader.Fail(param, "a text part must have a string `text`");
    }
    *out += text->get_ref<const std::string&>();
  }
}

bool IsKnownRole(const std::string& role) {
  for (const char* known : {"system", "user", "assistant", "tool"}) {
    if (role == known) return true;
  }
  return false;
}

void ReadMessage(FieldReader& reader, const std::string& param, const json& value,
                 model::ChatMessage* message) {
  if (!value.is_object()) return reader.Fail(param, "a message must be an object");
  FieldReader fields(value);
  fields.String("role", &message->role);
  fields.String("name", &message->name);
  if (!fields.ok())
    return reader.Fail(param + "." + fields.error()->param, fields.error()->message);
  if (message->role == "developer") message->role = "system";
  if (!IsKnownRole(message->role)) {
    return reader.Fail(param + ".role",
                       "role must be one of system, developer, user, assistant, tool");
  }
  const json* tool_calls = fields.Find("tool_calls");
  if (tool_calls && !tool_calls->empty()) {
    return reader.Fail(param + ".tool_calls", "tool calls are not supported", kUnsupportedCode);
  }
  const auto content = value.find("content");
  if (content == value.end() && message->role != "assistant") {
    return reader.Fail(param + ".content", "content is missing", kMissingCode);
  }
  if (content != value.end()) {
    ReadContent(reader, param + ".content", *content, &message->content);
  }
}

void ReadConversation(FieldReader& reader, ChatRequest* request) {
  const json* value = reader.Find("messages");
  if (!value) return reader.Fail("messages", "messages is missing", kMissingCode);
  if (!value->is_array() || value->empty()) {
    return reader.Fail("messages", "messages must be a non-empty array");
  }
  if (value->size() > kMaxMessages) {
    return reader.Fail(
        "messages", Str("too many messages:", Kv("count", value->size()), Kv("max", kMaxMessages)));
  }
  for (size_t i = 0; i < value->size() && reader.ok(); ++i) {
    ReadMessage(reader, Str("messages[", i, "]"), (*value)[i], &request->messages.emplace_back());
  }
  reader.Bool("add_generation_prompt", &request->add_generation_prompt);
  const json* kwargs = reader.Find("chat_template_kwargs");
  if (!kwargs) return;
  if (!kwargs->is_object()) {
    return reader.Fail("chat_template_kwargs", "chat_template_kwargs must be an object");
  }
  if (!kwargs->empty()) request->template_kwargs_json = kwargs->dump();
}

// logprobs: whether; top_logprobs: how many of the best besides.
void ReadChatLogprobs(FieldReader& reader, model::SamplingParams* sampling) {
  bool wanted = false;
  int n_top = 0;
  reader.Bool("logprobs", &wanted);
  reader.Int("top_logprobs", 0, model::kMaxLogprobs, &n_top);
  if (n_top > 0 && !wanted) {
    return reader.Fail("top_logprobs", "top_logprobs needs logprobs to be true");
  }
  if (wanted) sampling->n_logprobs = n_top;
}

}  // namespace

std::optional<ApiError> ParseCompletionRequest(const json& body, int n_vocab,
                                               CompletionRequest* request) {
  if (auto error = FindUnsupported(body)) return error;
  FieldReader reader(body);
  ReadCommon(reader, n_vocab, kDefaultCompletionTokens, &request->options);
  reader.Bool("echo", &request->echo);
  model::SamplingParams& sampling = request->options.sampling;
  reader.Int("logprobs", 0, model::kMaxLogprobs, &sampling.n_logprobs);
  if (request->echo) sampling.n_prompt_logprobs = sampling.n_logprobs;
  if (reader.ok()) ReadPrompts(reader, n_vocab, &request->prompts);
  CheckSequences(reader, *request);
  if (reader.ok()) request->options.unknown_fields = FindUnknown(body, reader);
  return reader.error();
}

std::optional<ApiError> ParseChatRequest(const json& body, int n_vocab, ChatRequest* request) {
  if (auto error = FindUnsupported(body)) return error;
  FieldReader reader(body);
  ReadCommon(reader, n_vocab, /*default_max=*/-1, &request->options);
  ReadChatLogprobs(reader, &request->options.sampling);
  if (reader.ok()) ReadConversation(reader, request);
  if (reader.ok()) request->options.unknown_fields = FindUnknown(body, reader);
  return reader.error();
}

std::optional<ApiError> ParseConversation(const json& body, ChatRequest* request) {
  FieldReader reader(body);
  ReadConversation(reader, request);
  return reader.error();
}

std::optional<ApiError> ParseTokens(const json& body, int n_vocab, TokenIds* ids) {
  FieldReader reader(body);
  const json* value = reader.Find("tokens");
  if (!value || !value->is_array()) return BadParameter("tokens", "tokens must be an array of ids");
  ReadTokenIds(reader, "tokens", *value, n_vocab, ids);
  return reader.error();
}

}  // namespace thermocline::coordinator::http
