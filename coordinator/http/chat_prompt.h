// From a conversation to the prompt of a chat model, as text and as tokens.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "coordinator/http/openai_request.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"

namespace thermocline::coordinator::http {

// 400 when there is no template or it refuses these messages.
std::optional<ApiError> RenderChat(const ChatRequest& request,
                                   const model::ChatTemplate* chat_template,
                                   const model::Tokenizer& tokenizer, std::string* prompt);

// Templates write the begin token themselves or leave it to the tokenizer; it is there once.
TokenIds TokenizeChat(std::string_view prompt, const model::Tokenizer& tokenizer);

}  // namespace thermocline::coordinator::http
