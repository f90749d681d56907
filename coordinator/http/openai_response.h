// Builds the JSON of completion and chat responses, whole or as chunks of a stream.
//
// Source: the OpenAI API reference ("chat completion object", "chat completion chunk object",
// "completion object"); `timings` as llama-server has it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thermocline::coordinator::http {

enum class ResponseKind : uint8_t { kCompletion, kChat };

// What all objects of one response repeat.
struct ResponseHead {
  ResponseKind kind = ResponseKind::kCompletion;
  std::string id;
  int64_t created = 0;  // Unix time, seconds
  std::string model;
};

struct TokenAlternative {
  std::string bytes;
  float logprob = 0;
};

// One token of a choice with its log-probabilities.
struct TokenEntry {
  int32_t id = 0;
  std::string bytes;             // need not be whole UTF-8
  std::optional<float> logprob;  // the first token of a prompt has none
  std::vector<TokenAlternative> top;
  size_t text_offset = 0;  // in characters, from the start of the choice's text
};

// A choice, or a piece of it.
struct ChoicePiece {
  int index = 0;
  std::string text;
  std::vector<TokenEntry> tokens;
  std::string finish_reason;  // "": not yet
};

// Which optional members a choice has.
struct ChoiceMembers {
  bool logprobs = false;
  bool token_ids = false;
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
};

struct Timings {
  int64_t prompt_n = 0, predicted_n = 0, cache_n = 0;
  double prompt_ms = 0, predicted_ms = 0;
};

// The `usage` member of a chunk: absent, null, or a value.
struct ChunkUsage {
  bool present = false;
  std::optional<Usage> value;
};

std::string ResponseBody(const ResponseHead& head, const std::vector<ChoicePiece>& choices,
                         ChoiceMembers members, const Usage& usage, const Timings& timings);

// The first chunk of a chat choice.
std::string RoleChunk(const ResponseHead& head, int index, const ChunkUsage& usage);
// Text that has become certain; finish_reason is null.
std::string TextChunk(const ResponseHead& head, const ChoicePiece& piece, ChoiceMembers members,
                      const ChunkUsage& usage);
// The last chunk of a choice: no text, finish_reason set. `timings` go with the last of all.
std::string FinishChunk(const ResponseHead& head, const ChoicePiece& piece, const ChunkUsage& usage,
                        const std::optional<Timings>& timings);
// The chunk without choices that ends a stream when the client asked for usage.
std::string UsageChunk(const ResponseHead& head, const Usage& usage);

}  // namespace thermocline::coordinator::http
