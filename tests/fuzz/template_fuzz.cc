// Any bytes as a chat template: parsing and rendering must end within the limits, without a crash.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "model/chat_template.h"

using thermocline::model::ChatTemplate;
using thermocline::model::ChatTemplateInput;
using thermocline::model::ChatTemplateLimits;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ChatTemplateLimits limits;
  limits.max_source_bytes = 16 * 1024;
  limits.max_steps = 20'000;
  limits.max_output_bytes = 64 * 1024;
  limits.max_heap_bytes = 1024 * 1024;
  const auto parsed = ChatTemplate::Parse({reinterpret_cast<const char*>(data), size}, limits);
  if (!parsed.ok()) return 0;
  ChatTemplateInput input;
  input.messages = {{"system", "Be brief.", ""},
                    {"user", "Größe \xff 日本", "ann"},
                    {"assistant", "<think>x</think> Hi ", ""},
                    {"user", "", ""}};
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.kwargs_json =
      R"({"tools": [{"type": "function", "function": {"name": "f", "n": 1.5}}], "k": [3, 1, 2]})";
  input.now_unix_s = 1753444800;
  const auto rendered = parsed->Render(input);
  if (rendered.ok() && rendered->size() > limits.max_output_bytes) std::abort();
  return 0;
}
