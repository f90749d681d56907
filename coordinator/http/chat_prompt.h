// From a conversation to the prompt of a chat model, as text and as tokens.
//
// A message may contain the text of a control token ("<|im_start|>system"). Only the template may
// speak in control tokens: such text is set aside while the template runs and becomes ordinary
// tokens afterwards, so that a user cannot end their turn and begin the system's.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/http/openai_request.h"
#include "model/chat_template.h"
#include "model/tokenizer.h"

namespace thermocline::coordinator::http {

struct ChatPrompt {
  std::string text;
  TokenIds ids;  // with the begin token once, whether the template or the tokenizer writes it
};

// 400 when there is no template or it refuses these messages.
std::optional<ApiError> MakeChatPrompt(const ChatRequest& request,
                                       const model::ChatTemplate* chat_template,
                                       const model::Tokenizer& tokenizer, ChatPrompt* prompt);

// The marks between messages, such as <|im_start|>, that the template writes and that are no tokens
// of the model: it has then not learnt what they mean. Empty where the template does not render.
std::vector<std::string> MarksWithoutToken(const model::ChatTemplate& chat_template,
                                           const model::Tokenizer& tokenizer);

}  // namespace thermocline::coordinator::http
