// POST /tokenize, /detokenize and /apply-template, in the shapes of both vLLM and llama-server.
#include <nlohmann/json.hpp>
#include <utility>

#include "coordinator/http/api.h"
#include "coordinator/http/api_error.h"
#include "coordinator/http/chat_prompt.h"
#include "coordinator/http/field_reader.h"
#include "coordinator/http/json_body.h"
#include "coordinator/http/openai_request.h"
#include "model/text_decoder.h"

namespace thermocline::coordinator::http {
namespace {

using Json = nlohmann::ordered_json;

HttpResponse JsonResponse(const Json& body) {
  HttpResponse response;
  response.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  return response;
}

// llama-server's piece: text when it is UTF-8, else its bytes.
Json PieceJson(const std::string& bytes) {
  Json array = Json::array();
  for (const char byte : bytes) array.push_back(static_cast<unsigned char>(byte));
  model::TextDecoder decoder;
  return decoder.Push(bytes) == bytes ? Json(bytes) : array;
}

// The tokens of `prompt` (vLLM), `content` (llama-server) or `messages` (vLLM).
std::optional<ApiError> TokenizeBody(const ApiContext& context, const nlohmann::json& body,
                                     TokenIds* ids) {
  FieldReader reader(body);
  if (reader.Find("messages")) {
    ChatRequest request;
    if (auto error = ParseConversation(body, &request)) return error;
    ChatPrompt prompt;
    if (auto error = MakeChatPrompt(request, context.chat_template, context.tokenizer, &prompt)) {
      return error;
    }
    *ids = std::move(prompt.ids);
    return std::nullopt;
  }
  const bool llama_shape = reader.Find("content") != nullptr;
  if (!llama_shape && !reader.Find("prompt")) {
    return BadParameter("prompt", "one of prompt, content and messages must be given");
  }
  model::EncodeOptions options{.add_special = !llama_shape, .parse_special = true};
  std::string text;
  reader.String(llama_shape ? "content" : "prompt", &text);
  reader.Bool("add_special", &options.add_special);
  reader.Bool("add_special_tokens", &options.add_special);
  reader.Bool("parse_special", &options.parse_special);
  if (reader.ok()) *ids = context.tokenizer.Encode(text, options);
  return reader.error();
}

Json TokensJson(const TokenIds& ids, const model::Tokenizer& tokenizer, bool with_pieces) {
  if (!with_pieces) return ids;
  Json tokens = Json::array();
  for (const int32_t id : ids) {
    tokens.push_back({{"id", id}, {"piece", PieceJson(tokenizer.TokenBytes(id, true))}});
  }
  return tokens;
}

HttpResponse Tokenize(const ApiContext& context, const Call& call) {
  nlohmann::json body;
  if (const auto error = ReadJsonBody(call.request, &body)) return ErrorResponse(*error);
  TokenIds ids;
  if (const auto error = TokenizeBody(context, body, &ids)) return ErrorResponse(*error);
  bool with_pieces = false, with_strings = false;
  FieldReader reader(body);
  reader.Bool("with_pieces", &with_pieces);
  reader.Bool("return_token_strs", &with_strings);
  if (!reader.ok()) return ErrorResponse(*reader.error());
  Json answer = {{"count", ids.size()},
                 {"max_model_len", context.service.n_ctx()},
                 {"tokens", TokensJson(ids, context.tokenizer, with_pieces)}};
  if (with_strings) {
    answer["token_strs"] = Json::array();
    for (const int32_t id : ids) {
      answer["token_strs"].push_back(context.tokenizer.TokenBytes(id, true));
    }
  }
  return JsonResponse(answer);
}

HttpResponse Detokenize(const ApiContext& context, const Call& call) {
  nlohmann::json body;
  if (const auto error = ReadJsonBody(call.request, &body)) return ErrorResponse(*error);
  TokenIds ids;
  if (const auto error = ParseTokens(body, context.tokenizer.n_vocab(), &ids)) {
    return ErrorResponse(*error);
  }
  const std::string text = context.tokenizer.Decode(ids, /*with_special=*/true);
  return JsonResponse({{"prompt", text}, {"content", text}});
}

HttpResponse ApplyTemplate(const ApiContext& context, const Call& call) {
  nlohmann::json body;
  if (const auto error = ReadJsonBody(call.request, &body)) return ErrorResponse(*error);
  ChatRequest request;
  if (const auto error = ParseConversation(body, &request)) return ErrorResponse(*error);
  ChatPrompt prompt;
  if (const auto error =
          MakeChatPrompt(request, context.chat_template, context.tokenizer, &prompt)) {
    return ErrorResponse(*error);
  }
  return JsonResponse({{"prompt", prompt.text}});
}

using PlainHandler = HttpResponse (*)(const ApiContext& context, const Call& call);

Handler Wrap(const ApiContext& context, PlainHandler handler) {
  return [context, handler](const Call& call, const std::shared_ptr<Exchange>& exchange) {
    exchange->Reply(handler(context, call));
  };
}

}  // namespace

std::vector<Route> TextRoutes(const ApiContext& context) {
  return {{Method::kPost, "/tokenize", Wrap(context, Tokenize)},
          {Method::kPost, "/detokenize", Wrap(context, Detokenize)},
          {Method::kPost, "/apply-template", Wrap(context, ApplyTemplate)}};
}

}  // namespace thermocline::coordinator::http
