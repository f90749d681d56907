// ChatTemplate::BuiltIn: templates of our own for the common prompt formats, for files that carry
// none and for `--chat-template NAME`.
#include <array>

#include "base/str.h"
#include "model/chat_template.h"

namespace thermocline::model {
namespace {

struct BuiltInTemplate {
  std::string_view name;
  std::string_view source;
};

// Roles as they come, each message between markers.
constexpr std::string_view kChatMl = R"({%- for message in messages -%}
{{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\n' -}}
{%- endif -%})";

// The system text goes into the first instruction, between its own markers.
constexpr std::string_view kLlama2 = R"({%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = '<<SYS>>\n' ~ message.content ~ '\n<</SYS>>\n\n' -%}
{%- elif message.role == 'user' -%}
{{- bos_token ~ '[INST] ' ~ ns.system ~ message.content | trim ~ ' [/INST]' -}}
{%- set ns.system = '' -%}
{%- elif message.role == 'assistant' -%}
{{- ' ' ~ message.content | trim ~ ' ' ~ eos_token -}}
{%- else -%}
{{- raise_exception('role not known to this template: ' ~ message.role) -}}
{%- endif -%}
{%- endfor -%})";

// A header with the role, two newlines, the text, an end-of-turn marker.
constexpr std::string_view kLlama3 = R"({{- bos_token -}}
{%- for message in messages -%}
{{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\n\n' -}}
{{- message.content | trim ~ '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%})";

constexpr std::string_view kZephyr = R"({%- for message in messages -%}
{{- '<|' ~ message.role ~ '|>\n' ~ message.content ~ eos_token ~ '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>\n' -}}
{%- endif -%})";

// The assistant is called model, and there is no system role: its text opens the first user turn.
constexpr std::string_view kGemma = R"({{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = message.content | trim ~ '\n\n' -%}
{%- else -%}
{%- set role = 'model' if message.role == 'assistant' else message.role -%}
{{- '<start_of_turn>' ~ role ~ '\n' -}}
{{- ns.system ~ message.content | trim ~ '<end_of_turn>\n' -}}
{%- set ns.system = '' -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<start_of_turn>model\n' -}}
{%- endif -%})";

// Turns must alternate; the system text opens the last user turn.
constexpr std::string_view kMistral = R"({{- bos_token -}}
{%- set system = '' -%}
{%- set turns = messages -%}
{%- if messages and messages[0].role == 'system' -%}
{%- set system = messages[0].content ~ '\n\n' -%}
{%- set turns = messages[1:] -%}
{%- endif -%}
{%- for message in turns -%}
{%- if message.role != ('user' if loop.index0 is even else 'assistant') -%}
{{- raise_exception('turns must alternate between user and assistant') -}}
{%- endif -%}
{%- if message.role == 'user' -%}
{{- '[INST] ' ~ (system if loop.last else '') ~ message.content ~ ' [/INST]' -}}
{%- else -%}
{{- ' ' ~ message.content | trim ~ eos_token -}}
{%- endif -%}
{%- endfor -%})";

constexpr std::array<BuiltInTemplate, 6> kTemplates = {{
    {"chatml", kChatMl},
    {"gemma", kGemma},
    {"llama2", kLlama2},
    {"llama3", kLlama3},
    {"mistral", kMistral},
    {"zephyr", kZephyr},
}};

}  // namespace

Result<std::string> ChatTemplate::BuiltIn(std::string_view name) {
  std::string known;
  for (const BuiltInTemplate& entry : kTemplates) {
    if (entry.name == name) return std::string(entry.source);
    known += Str(known.empty() ? "" : ",", entry.name);
  }
  return NotFound(
      Str("no built-in chat template of that name: ", Printable(name), Kv("known", known)));
}

}  // namespace thermocline::model
