// Arbitrary bytes as text: byte-level BPE gives them back, SPM too where they are text without
// special tokens, and what reaches a client is UTF-8 without its stop string.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "model/text_decoder.h"
#include "model/tokenizer.h"
#include "model/unicode.h"
#include "tests/support/tiny_tokenizers.h"

namespace thermocline {
namespace {

using model::Tokenizer;

std::unique_ptr<Tokenizer> Make(model::TokenizerData data) {
  auto tokenizer = model::MakeTokenizer(std::move(data));
  CHECK(tokenizer.ok());
  return std::move(tokenizer).value();
}

void CheckStream(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  auto matcher = model::StopMatcher::Create({"stop", "▁", "aab"});
  CHECK(matcher.ok());
  model::TextDecoder decoder;
  std::string sent;
  for (const int32_t id : ids) {
    const std::string text = decoder.Push(tokenizer.TokenBytes(id, true));
    CHECK(model::IsValidUtf8(text));
    sent += matcher->Push(text);
    CHECK(model::IsValidUtf8(sent));
  }
  sent += matcher->Push(decoder.Flush());
  sent += matcher->Flush();
  CHECK(model::IsValidUtf8(sent));
  CHECK(sent.find("stop") == std::string::npos);
  CHECK(sent.find("aab") == std::string::npos);
}

void CheckBpe(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {false, true}) {
    const auto ids = tokenizer.Encode(text, {.add_special = true, .parse_special = parse_special});
    CHECK(tokenizer.Decode(ids, true) == text);
    CheckStream(tokenizer, ids);
  }
}

void CheckSpm(const Tokenizer& tokenizer, std::string_view text) {
  for (const bool parse_special : {false, true}) {
    const auto ids = tokenizer.Encode(text, {.add_special = false, .parse_special = parse_special});
    const bool plain = text.find("<sep>") == std::string_view::npos &&
                       text.find("\xE2\x96\x81") == std::string_view::npos;
    if (plain && !parse_special) CHECK(tokenizer.Decode(ids, false) == text);
    CheckStream(tokenizer, ids);
  }
}

}  // namespace
}  // namespace thermocline

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using thermocline::testing::TinyBpe;
  using thermocline::testing::TinySpm;
  static const auto spm = thermocline::Make(TinySpm());
  static const auto gpt2 = thermocline::Make(TinyBpe("gpt-2"));
  static const auto llama3 = thermocline::Make(TinyBpe("llama-bpe"));
  static const auto plain = thermocline::Make(TinyBpe("default"));
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  thermocline::CheckSpm(*spm, text);
  for (const auto* bpe : {&gpt2, &llama3, &plain}) thermocline::CheckBpe(**bpe, text);
  return 0;
}
