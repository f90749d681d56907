#include "coordinator/http/chat_prompt.h"

#include <utility>

#include "base/str.h"

namespace thermocline::coordinator::http {
namespace {

std::string TextOf(const model::Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id ? std::string(tokenizer.TokenText(*id)) : std::string();
}

}  // namespace

std::optional<ApiError> RenderChat(const ChatRequest& request,
                                   const model::ChatTemplate* chat_template,
                                   const model::Tokenizer& tokenizer, std::string* prompt) {
  if (!chat_template) {
    return BadParameter("messages",
                        "the model has no chat template; use /v1/completions, or start the server "
                        "with --chat-template",
                        "no_chat_template");
  }
  const model::ChatTemplateInput input{.messages = request.messages,
                                       .add_generation_prompt = request.add_generation_prompt,
                                       .bos_token = TextOf(tokenizer, tokenizer.special().bos),
                                       .eos_token = TextOf(tokenizer, tokenizer.special().eos),
                                       .kwargs_json = request.template_kwargs_json};
  auto rendered = chat_template->Render(input);
  if (!rendered.ok()) {
    return BadParameter("messages", Str("the chat template failed: ", rendered.status().message()),
                        "chat_template_error");
  }
  *prompt = std::move(rendered).value();
  return std::nullopt;
}

TokenIds TokenizeChat(std::string_view prompt, const model::Tokenizer& tokenizer) {
  TokenIds ids = tokenizer.Encode(prompt, {.add_special = false, .parse_special = true});
  const model::SpecialTokens& special = tokenizer.special();
  const bool lacks_bos = special.add_bos && special.bos && (ids.empty() || ids[0] != *special.bos);
  if (lacks_bos) ids.insert(ids.begin(), *special.bos);
  return ids;
}

}  // namespace thermocline::coordinator::http
