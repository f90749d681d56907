#include "coordinator/http/openai_response.h"

#include <nlohmann/json.hpp>

namespace thermocline::coordinator::http {
namespace {

using Json = nlohmann::ordered_json;

// Names the numerics that answered; clients compare it between calls with the same seed.
constexpr char kSystemFingerprint[] = "thermocline-0.1";

// Token texts may be parts of characters; those bytes become U+FFFD, and `bytes` has the truth.
std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json BytesJson(const std::string& bytes) {
  Json array = Json::array();
  for (const char byte : bytes) array.push_back(static_cast<unsigned char>(byte));
  return array;
}

// JSON has no infinity; OpenAI's floor for "practically impossible" is -9999.
double FiniteLogprob(float logprob) { return logprob < -9999.0f ? -9999.0 : logprob; }

Json AlternativeJson(const std::string& bytes, float logprob) {
  return {{"token", bytes}, {"logprob", FiniteLogprob(logprob)}, {"bytes", BytesJson(bytes)}};
}

Json ChatLogprobs(const std::vector<TokenEntry>& tokens) {
  Json content = Json::array();
  for (const TokenEntry& token : tokens) {
    Json entry = AlternativeJson(token.bytes, token.logprob.value_or(0));
    Json top = Json::array();
    for (const TokenAlternative& other : token.top) {
      top.push_back(AlternativeJson(other.bytes, other.logprob));
    }
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

// The best tokens and always the chosen one, by text; of equal texts the better one stays.
Json LegacyTop(const TokenEntry& token) {
  if (!token.logprob) return nullptr;
  Json top = Json::object();
  for (const TokenAlternative& other : token.top) {
    if (!top.contains(other.bytes)) top[other.bytes] = FiniteLogprob(other.logprob);
  }
  if (!top.contains(token.bytes)) top[token.bytes] = FiniteLogprob(*token.logprob);
  return top;
}

Json LegacyLogprobs(const std::vector<TokenEntry>& tokens) {
  Json texts = Json::array(), logprobs = Json::array(), top = Json::array(),
       offsets = Json::array();
  for (const TokenEntry& token : tokens) {
    texts.push_back(token.bytes);
    logprobs.push_back(token.logprob ? Json(FiniteLogprob(*token.logprob)) : Json(nullptr));
    top.push_back(LegacyTop(token));
    offsets.push_back(token.text_offset);
  }
  return {{"text_offset", std::move(offsets)},
          {"token_logprobs", std::move(logprobs)},
          {"tokens", std::move(texts)},
          {"top_logprobs", std::move(top)}};
}

Json LogprobsJson(ResponseKind kind, const ChoicePiece& piece, bool wanted) {
  if (!wanted) return nullptr;
  return kind == ResponseKind::kChat ? ChatLogprobs(piece.tokens) : LegacyLogprobs(piece.tokens);
}

Json FinishJson(const ChoicePiece& piece) {
  return piece.finish_reason.empty() ? Json(nullptr) : Json(piece.finish_reason);
}

Json UsageJson(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}}};
}

double PerSecond(int64_t count, double ms) {
  return ms > 0 ? static_cast<double>(count) * 1e3 / ms : 0;
}

Json TimingsJson(const Timings& timings) {
  return {{"cache_n", timings.cache_n},
          {"prompt_n", timings.prompt_n},
          {"prompt_ms", timings.prompt_ms},
          {"prompt_per_second", PerSecond(timings.prompt_n, timings.prompt_ms)},
          {"predicted_n", timings.predicted_n},
          {"predicted_ms", timings.predicted_ms},
          {"predicted_per_second", PerSecond(timings.predicted_n, timings.predicted_ms)}};
}

void AddTokenIds(Json& choice, const ChoicePiece& piece, ChoiceMembers members) {
  if (!members.token_ids) return;
  Json ids = Json::array();
  for (const TokenEntry& token : piece.tokens) ids.push_back(token.id);
  choice["token_ids"] = std::move(ids);
}

Json Envelope(const ResponseHead& head, const char* object) {
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", kSystemFingerprint}};
}

Json WholeChoice(ResponseKind kind, const ChoicePiece& piece, ChoiceMembers members) {
  Json choice = {{"index", piece.index}};
  if (kind == ResponseKind::kChat) {
    choice["message"] = {{"role", "assistant"}, {"content", piece.text}, {"refusal", nullptr}};
  } else {
    choice["text"] = piece.text;
  }
  choice["logprobs"] = LogprobsJson(kind, piece, members.logprobs);
  choice["finish_reason"] = FinishJson(piece);
  AddTokenIds(choice, piece, members);
  return choice;
}

// A chunk with at most one choice.
Json Chunk(const ResponseHead& head, Json choices, const ChunkUsage& usage) {
  const bool chat = head.kind == ResponseKind::kChat;
  Json chunk = Envelope(head, chat ? "chat.completion.chunk" : "text_completion");
  chunk["choices"] = std::move(choices);
  if (usage.present) chunk["usage"] = usage.value ? UsageJson(*usage.value) : Json(nullptr);
  return chunk;
}

Json ChunkChoice(const ResponseHead& head, const ChoicePiece& piece, ChoiceMembers members,
                 Json delta) {
  Json choice = {{"index", piece.index}};
  if (head.kind == ResponseKind::kChat) {
    choice["delta"] = std::move(delta);
  } else {
    choice["text"] = piece.text;
  }
  choice["logprobs"] = LogprobsJson(head.kind, piece, members.logprobs);
  choice["finish_reason"] = FinishJson(piece);
  AddTokenIds(choice, piece, members);
  return Json::array({std::move(choice)});
}

}  // namespace

std::string ResponseBody(const ResponseHead& head, const std::vector<ChoicePiece>& choices,
                         ChoiceMembers members, const Usage& usage, const Timings& timings) {
  const bool chat = head.kind == ResponseKind::kChat;
  Json body = Envelope(head, chat ? "chat.completion" : "text_completion");
  body["choices"] = Json::array();
  for (const ChoicePiece& choice : choices) {
    body["choices"].push_back(WholeChoice(head.kind, choice, members));
  }
  body["usage"] = UsageJson(usage);
  body["timings"] = TimingsJson(timings);
  return Dump(body);
}

std::string RoleChunk(const ResponseHead& head, int index, const ChunkUsage& usage) {
  const ChoicePiece piece{.index = index};
  Json delta = {{"role", "assistant"}, {"content", ""}};
  return Dump(Chunk(head, ChunkChoice(head, piece, {}, std::move(delta)), usage));
}

std::string TextChunk(const ResponseHead& head, const ChoicePiece& piece, ChoiceMembers members,
                      const ChunkUsage& usage) {
  Json delta = {{"content", piece.text}};
  return Dump(Chunk(head, ChunkChoice(head, piece, members, std::move(delta)), usage));
}

std::string FinishChunk(const ResponseHead& head, const ChoicePiece& piece, const ChunkUsage& usage,
                        const std::optional<Timings>& timings) {
  Json chunk = Chunk(head, ChunkChoice(head, piece, {}, Json::object()), usage);
  if (timings) chunk["timings"] = TimingsJson(*timings);
  return Dump(chunk);
}

std::string UsageChunk(const ResponseHead& head, const Usage& usage) {
  return Dump(Chunk(head, Json::array(), {.present = true, .value = usage}));
}

}  // namespace thermocline::coordinator::http
