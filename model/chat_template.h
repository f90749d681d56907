// Turns a conversation into the prompt text a model was trained on, by the Jinja template that its
// file carries.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thermocline::model {

struct ChatMessage {
  std::string role;
  std::string content;
  std::string name;  // optional; "" when absent
};

struct ChatTemplateInput {
  std::vector<ChatMessage> messages;
  bool add_generation_prompt = true;
  std::string bos_token;
  std::string eos_token;
  // Extra variables (chat_template_kwargs) as a JSON object; "" = none. They may replace any other
  // variable except messages; tools and documents are None without them.
  std::string kwargs_json;
  // What strftime_now shows, in the local time zone; the system's clock when absent.
  std::optional<int64_t> now_unix_s;
};

struct ChatTemplateLimits {
  size_t max_source_bytes = 256 * 1024;       // the longest published template has ~30 KiB
  size_t max_steps = 2'000'000;               // evaluated nodes; a 4096-message chat takes ~10^5
  size_t max_output_bytes = 8 * 1024 * 1024;  // more than any context holds
  // Strings, lists and scopes made while rendering; 8 copies of the longest output.
  size_t max_heap_bytes = 64 * 1024 * 1024;
  // Nested expressions and statements of the source, and of kwargs_json. Evaluation, where macros
  // call each other, may go 8 times deeper.
  int max_depth = 64;
};

// A parsed template. Immutable, so thread-safe.
class ChatTemplate {
 public:
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  // kInvalidArgument names the construct that is not supported and its line.
  static Result<ChatTemplate> Parse(std::string_view source, const ChatTemplateLimits& limits = {});
  // "chatml" and other built-in names -> their source; kNotFound otherwise.
  static Result<std::string> BuiltIn(std::string_view name);

  // kInvalidArgument: the template called raise_exception, or failed on these messages;
  // kResourceExhausted: a budget ran out.
  Result<std::string> Render(const ChatTemplateInput& input) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace thermocline::model
