#include "model/chat_template.h"

#include <ctime>
#include <utility>

#include "base/str.h"
#include "model/jinja/evaluator.h"
#include "model/jinja/json_value.h"
#include "model/jinja/parser.h"
#include "model/jinja/runtime.h"

namespace thermocline::model {

using jinja::Entry;
using jinja::Runtime;
using jinja::Value;

struct ChatTemplate::Impl {
  jinja::Block block;
  ChatTemplateLimits limits;
};

namespace {

Entry Named(std::string_view name, Value value) { return {Value::String(name), value}; }

Result<Value> MessageDict(Runtime& runtime, const ChatMessage& message) {
  std::vector<Entry> entries = {Named("role", Value::String(message.role)),
                                Named("content", Value::String(message.content))};
  if (!message.name.empty()) entries.push_back(Named("name", Value::String(message.name)));
  return runtime.NewDict(entries);
}

Result<Value> MessageList(Runtime& runtime, const std::vector<ChatMessage>& messages) {
  jinja::ListBuilder list(runtime);
  for (const ChatMessage& message : messages) {
    TC_ASSIGN_OR_RETURN(const Value dict, MessageDict(runtime, message));
    list.Append(dict);
  }
  return list.Finish();
}

// The variables a template finds, in the order in which later ones replace earlier ones.
Result<Value> Globals(Runtime& runtime, const ChatTemplateInput& input) {
  TC_ASSIGN_OR_RETURN(const Value messages, MessageList(runtime, input.messages));
  std::vector<Entry> entries = {
      Named("tools", Value::None()),
      Named("documents", Value::None()),
      Named("add_generation_prompt", Value::Bool(input.add_generation_prompt)),
      Named("bos_token", Value::String(input.bos_token)),
      Named("eos_token", Value::String(input.eos_token)),
  };
  if (!input.kwargs_json.empty()) {
    auto kwargs = jinja::ParseJson(runtime, input.kwargs_json);
    if (!kwargs.ok()) return kwargs.status().WithContext("chat template arguments");
    if (!kwargs->is(jinja::Kind::kDict)) {
      return InvalidArgument(
          Str("chat template arguments must be a JSON object:", Kv("type", kwargs->TypeName())));
    }
    const auto more = kwargs->dict().entries();
    TC_RETURN_IF_ERROR(runtime.Charge(more.size_bytes()));
    entries.insert(entries.end(), more.begin(), more.end());
  }
  entries.push_back(Named("messages", messages));  // last: arguments cannot replace them
  return runtime.NewDict(entries);
}

}  // namespace

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

Result<ChatTemplate> ChatTemplate::Parse(std::string_view source,
                                         const ChatTemplateLimits& limits) {
  if (source.size() > limits.max_source_bytes) {
    return InvalidArgument(Str("chat template is too long:", Kv("bytes", source.size()),
                               Kv("max_bytes", limits.max_source_bytes)));
  }
  TC_ASSIGN_OR_RETURN(jinja::Block block, jinja::Parse(source, limits.max_depth));
  return ChatTemplate(std::make_unique<Impl>(Impl{std::move(block), limits}));
}

Result<std::string> ChatTemplate::Render(const ChatTemplateInput& input) const {
  const int64_t now = input.now_unix_s.value_or(static_cast<int64_t>(std::time(nullptr)));
  Runtime runtime(impl_->limits, now);
  TC_ASSIGN_OR_RETURN(const Value globals, Globals(runtime, input));
  return jinja::Evaluator(runtime, globals.dict()).Run(impl_->block);
}

}  // namespace thermocline::model
