// Parses and validates the bodies of /v1/completions and /v1/chat/completions into plain structs.
//
// Source: the OpenAI API reference; the extra parameters of vLLM and llama-server under their
// names. Unknown members are ignored; a feature that is known but not supported is refused by name.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "coordinator/http/api_error.h"
#include "model/chat_template.h"
#include "model/sampling_params.h"

namespace thermocline::coordinator::http {

// Choices per prompt; vLLM's manual advises 64 to 128.
inline constexpr int kMaxChoices = 128;
// Prompts in one request, and sequences (prompts x n) that one request may submit.
inline constexpr size_t kMaxPrompts = 256;
inline constexpr size_t kMaxSequences = 256;
// Messages of one conversation.
inline constexpr size_t kMaxMessages = 4096;
inline constexpr size_t kMaxStopTokenIds = 256;
// The number of tokens OpenAI and vLLM complete when a completion request does not say.
inline constexpr int kDefaultCompletionTokens = 16;

using TokenIds = std::vector<int32_t>;
using Prompt = std::variant<std::string, TokenIds>;

// What both kinds of request share.
struct GenerationOptions {
  std::string model;  // "" when the client named none
  bool stream = false;
  bool include_usage = false;           // one usage chunk at the end of a stream
  bool continuous_usage_stats = false;  // and the usage so far in each chunk (vLLM)
  int max_tokens = -1;                  // -1: until the context is full
  int min_tokens = 0;
  int n = 1;
  std::vector<std::string> stop;
  TokenIds stop_token_ids;
  bool ignore_eos = false;
  bool return_token_ids = false;
  // Choice j of a prompt samples with seed + j; absent or -1: a random one per request.
  std::optional<uint64_t> seed;
  model::SamplingParams sampling;           // seed and banned_ids are filled in later
  std::vector<std::string> unknown_fields;  // of the body, that have no effect
};

struct CompletionRequest {
  GenerationOptions options;
  std::vector<Prompt> prompts;  // at least one
  bool echo = false;
};

struct ChatRequest {
  GenerationOptions options;
  std::vector<model::ChatMessage> messages;
  bool add_generation_prompt = true;
  std::string template_kwargs_json;
};

// Ids in a request must lie in [0, n_vocab). The error says what the client must change.
std::optional<ApiError> ParseCompletionRequest(const nlohmann::json& body, int n_vocab,
                                               CompletionRequest* request);
std::optional<ApiError> ParseChatRequest(const nlohmann::json& body, int n_vocab,
                                         ChatRequest* request);

// The members `messages`, `add_generation_prompt` and `chat_template_kwargs` alone.
std::optional<ApiError> ParseConversation(const nlohmann::json& body, ChatRequest* request);
// The member `tokens`: an array of ids.
std::optional<ApiError> ParseTokens(const nlohmann::json& body, int n_vocab, TokenIds* ids);

}  // namespace thermocline::coordinator::http
