// POST /completions and /chat/completions: from a body to a running CompletionSession.
#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/str.h"
#include "coordinator/http/api.h"
#include "coordinator/http/api_error.h"
#include "coordinator/http/chat_prompt.h"
#include "coordinator/http/completion_session.h"
#include "coordinator/http/json_body.h"
#include "coordinator/http/openai_request.h"
#include "coordinator/http/request_id.h"
#include "coordinator/http/unsupported.h"

namespace thermocline::coordinator::http {
namespace {

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

// The ids that end a sequence: the model's own unless they are to be ignored, and the request's.
TokenIds EndIds(const GenerationOptions& options, const model::Tokenizer& tokenizer) {
  TokenIds ids = options.stop_token_ids;
  if (options.ignore_eos) return ids;
  const TokenIds& own = tokenizer.special().end_ids;
  ids.insert(ids.end(), own.begin(), own.end());
  return ids;
}

EchoedPrompt TokenizePrompt(const Prompt& prompt, const model::Tokenizer& tokenizer) {
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    EchoedPrompt result{tokenizer.Encode(*text, {}), *text};
    const auto bos = tokenizer.special().bos;
    if (result.ids.empty() && bos) result.ids.push_back(*bos);
    return result;
  }
  const TokenIds& ids = std::get<TokenIds>(prompt);
  return {ids, tokenizer.Decode(ids, /*with_special=*/true)};
}

// A prompt that can never fit is refused before it is queued.
std::optional<ApiError> CheckLength(const EchoedPrompt& prompt, const GenerationOptions& options,
                                    int n_ctx, const char* param) {
  if (prompt.ids.empty()) return BadParameter(param, "the prompt is empty");
  const auto n_prompt = static_cast<int64_t>(prompt.ids.size());
  const int64_t n_wanted = std::max(options.max_tokens, 0);
  if (n_ctx == 0 || n_prompt + n_wanted <= n_ctx) return std::nullopt;
  return BadParameter(param,
                      Str("prompt and max_tokens exceed the context:", Kv("prompt", n_prompt),
                          Kv("max_tokens", n_wanted), Kv("context", n_ctx)),
                      "context_length_exceeded");
}

std::optional<ApiError> CheckModel(const std::string& name, const HttpOptions& options) {
  const auto& aliases = options.model_aliases;
  const bool known = name.empty() || name == options.model_name ||
                     std::find(aliases.begin(), aliases.end(), name) != aliases.end();
  if (known) return std::nullopt;
  ApiError error = NotFoundError(
      Str("the model does not exist: ", Printable(name), " served=", options.model_name),
      "model_not_found");
  error.param = "model";
  return error;
}

class GenerationHandlers {
 public:
  GenerationHandlers(const ApiContext& context, RequestMetrics& metrics)
      : context_(context), services_{context.service, context.tokenizer, context.clock, metrics} {}

  void Completion(Call call, std::shared_ptr<Exchange> exchange) const {
    SessionJob job;
    if (const auto error = PrepareCompletion(call.request, &job)) {
      return exchange->Reply(ErrorResponse(*error));
    }
    Start(ResponseKind::kCompletion, std::move(call), std::move(job), std::move(exchange));
  }

  void Chat(Call call, std::shared_ptr<Exchange> exchange) const {
    SessionJob job;
    if (const auto error = PrepareChat(call.request, &job)) {
      return exchange->Reply(ErrorResponse(*error));
    }
    Start(ResponseKind::kChat, std::move(call), std::move(job), std::move(exchange));
  }

 private:
  std::optional<ApiError> PrepareCompletion(const HttpRequest& request, SessionJob* job) const {
    if (auto refusal = Refusal(context_.service.status())) return refusal;
    nlohmann::json body;
    if (auto error = ReadJsonBody(request, &body)) return error;
    CompletionRequest parsed;
    const int n_vocab = context_.tokenizer.n_vocab();
    if (auto error = ParseCompletionRequest(body, n_vocab, &parsed)) return error;
    for (const Prompt& prompt : parsed.prompts) {
      job->prompts.push_back(TokenizePrompt(prompt, context_.tokenizer));
    }
    job->echo = parsed.echo;
    return PrepareCommon(std::move(parsed.options), "prompt", job);
  }

  std::optional<ApiError> PrepareChat(const HttpRequest& request, SessionJob* job) const {
    if (auto refusal = Refusal(context_.service.status())) return refusal;
    nlohmann::json body;
    if (auto error = ReadJsonBody(request, &body)) return error;
    ChatRequest parsed;
    if (auto error = ParseChatRequest(body, context_.tokenizer.n_vocab(), &parsed)) return error;
    ChatPrompt prompt;
    if (auto error = MakeChatPrompt(parsed, context_.chat_template, context_.tokenizer, &prompt)) {
      return error;
    }
    job->prompts.push_back({std::move(prompt.ids), std::move(prompt.text)});
    return PrepareCommon(std::move(parsed.options), "messages", job);
  }

  std::optional<ApiError> PrepareCommon(GenerationOptions options, const char* param,
                                        SessionJob* job) const {
    if (auto error = CheckModel(options.model, context_.options)) return error;
    for (const EchoedPrompt& prompt : job->prompts) {
      if (auto error = CheckLength(prompt, options, context_.service.n_ctx(), param)) return error;
    }
    unknown_fields_->Warn(options.unknown_fields);
    if (!options.seed) options.seed = RandomU64();
    job->end_ids = EndIds(options, context_.tokenizer);
    job->options = std::move(options);
    return std::nullopt;
  }

  void Start(ResponseKind kind, Call call, SessionJob job,
             std::shared_ptr<Exchange> exchange) const {
    job.request_id = std::move(call.request_id);
    job.head = {
        .kind = kind,
        .id = MakeId(kind == ResponseKind::kChat ? "chatcmpl-" : "cmpl-"),
        .created = UnixSeconds(),
        .model = job.options.model.empty() ? context_.options.model_name : job.options.model};
    CompletionSession::Start(services_, std::move(job), std::move(exchange));
  }

  const ApiContext context_;
  const SessionServices services_;
  const std::unique_ptr<UnknownFieldLog> unknown_fields_ = std::make_unique<UnknownFieldLog>();
};

// For paths that clients know from OpenAI and that this server does not have.
void NotImplemented(Call, std::shared_ptr<Exchange> exchange) {
  exchange->Reply(ErrorResponse({.status = 501,
                                 .message = "this server generates text only",
                                 .type = "invalid_request_error",
                                 .code = "not_implemented"}));
}

}  // namespace

std::vector<Route> GenerationRoutes(const ApiContext& context, RequestMetrics& request_metrics) {
  const auto handlers = std::make_shared<const GenerationHandlers>(context, request_metrics);
  const Handler completion = [handlers](Call call, std::shared_ptr<Exchange> exchange) {
    handlers->Completion(std::move(call), std::move(exchange));
  };
  const Handler chat = [handlers](Call call, std::shared_ptr<Exchange> exchange) {
    handlers->Chat(std::move(call), std::move(exchange));
  };
  std::vector<Route> routes = {{Method::kPost, "/completions", completion},
                               {Method::kPost, "/chat/completions", chat}};
  for (const char* path : {"/embeddings", "/responses", "/messages", "/rerank", "/moderations",
                           "/audio/*", "/images/*"}) {
    routes.push_back({Method::kPost, path, NotImplemented});
  }
  return routes;
}

}  // namespace thermocline::coordinator::http
