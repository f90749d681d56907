#include "model/bpe_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "tests/support/test_paths.h"
#include "tests/support/tiny_tokenizers.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::TinyBpe;

constexpr EncodeOptions kPlain{.add_special = false, .parse_special = false};

std::unique_ptr<Tokenizer> Make(TokenizerData data) {
  auto tokenizer = MakeTokenizer(std::move(data));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value();
}

std::string Texts(const Tokenizer& tokenizer, std::string_view text,
                  const EncodeOptions& options = {}) {
  std::string out;
  for (const int32_t id : tokenizer.Encode(text, options)) {
    out += (out.empty() ? "" : " ") + std::string(tokenizer.TokenText(id));
  }
  return out;
}

std::string ErrorOf(TokenizerData data) {
  const auto tokenizer = MakeTokenizer(std::move(data));
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kInvalidArgument);
  return tokenizer.status().message();
}

nlohmann::json Fixture() {
  std::ifstream file(testing::TestDataPath("bpe_tiny.json"));
  return nlohmann::json::parse(file);
}

TokenizerData FixtureData(const nlohmann::json& fixture, const std::string& pre) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = pre;
  data.tokens = fixture["tokens"].get<std::vector<std::string>>();
  data.merges = fixture["merges"].get<std::vector<std::string>>();
  return data;
}

// The ids come from tests/data/make_bpe_tiny.py, an independent implementation.
TEST(BpeTokenizer, AgreesWithAnIndependentImplementation) {
  const nlohmann::json fixture = Fixture();
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  for (const char* pre : {"default", "gpt-2", "llama-bpe", "qwen2"}) {
    tokenizers[pre] = Make(FixtureData(fixture, pre));
  }
  int n_cases = 0;
  for (const auto& c : fixture["cases"]) {
    const auto pre = c["pre"].get<std::string>();
    const auto text = c["text"].get<std::string>();
    const Tokenizer& tokenizer = *tokenizers.at(pre);
    const auto ids = tokenizer.Encode(text, kPlain);
    ASSERT_EQ(ids, c["ids"].get<std::vector<int32_t>>()) << pre << ": " << c["text"];
    ASSERT_EQ(tokenizer.Decode(ids, false), text) << pre << ": " << c["text"];
    ++n_cases;
  }
  EXPECT_GT(n_cases, 400);
}

TEST(BpeTokenizer, MergesInTheOrderOfTheirRanks) {
  const auto tokenizer = Make(TinyBpe("gpt-2"));
  EXPECT_EQ(Texts(*tokenizer, "hello hello"), "hello Ġhello");
  EXPECT_EQ(Texts(*tokenizer, "aaaaaaa"), "aaaa aa a");
  EXPECT_EQ(Texts(*tokenizer, "hellhe"), "hell he");
}

TEST(BpeTokenizer, OnlyLlamaTakesAWholeWordWithoutMerges) {
  for (const char* pre : {"llama-bpe", "gpt-2"}) {
    TokenizerData data = TinyBpe(pre);
    data.tokens.push_back("xyz");
    data.types.push_back(static_cast<int64_t>(TokenType::kNormal));
    EXPECT_EQ(Texts(*Make(data), "xyz"), pre == std::string("llama-bpe") ? "xyz" : "x y z");
  }
}

TEST(BpeTokenizer, InvalidBytesBecomeTheirByteTokens) {
  const auto tokenizer = Make(TinyBpe("llama-bpe"));
  for (const std::string_view text : {"a\xFFhello", "\xE6\xB0", "\xED\xA0\x80", "hello\x80\x80"}) {
    const auto ids = tokenizer->Encode(text, {});
    EXPECT_EQ(tokenizer->Decode(ids, true), text);
  }
  EXPECT_EQ(Texts(*tokenizer, "\xFFhello"), "ÿ hello");
}

TEST(BpeTokenizer, ControlTokensAreParsedOnlyWhenAsked) {
  const auto tokenizer = Make(TinyBpe("gpt-2"));
  EXPECT_EQ(Texts(*tokenizer, "<|im_start|>hello<sep>aa"), "<|im_start|> hello <sep> aa");
  EXPECT_THAT(Texts(*tokenizer, "<|im_end|><sep>", kPlain), HasSubstr("| > <sep>"));
  const auto ids = tokenizer->Encode("aa<|im_end|>", {});
  EXPECT_EQ(tokenizer->Decode(ids, true), "aa<|im_end|>");
  EXPECT_EQ(tokenizer->Decode(ids, false), "aa");
}

TEST(BpeTokenizer, MergingNeverMakesAControlToken) {
  TokenizerData data = TinyBpe("gpt-2");
  data.merges.push_back("x y");
  data.tokens.push_back("xy");
  data.types.push_back(static_cast<int64_t>(TokenType::kControl));
  const auto tokenizer = Make(data);
  EXPECT_EQ(Texts(*tokenizer, "xy", kPlain), "x y");
  EXPECT_EQ(Texts(*tokenizer, "xy", {.add_special = false, .parse_special = true}), "xy");
}

TEST(BpeTokenizer, MergesAreAmongOrdinaryTokensEvenWhenSpecialOnesHaveTheSameText) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = "gpt-2";
  data.tokens = {"a", "a", "b", "ab"};
  data.types = {3, 1, 1, 1};
  data.merges = {"a b"};
  EXPECT_THAT(Make(data)->Encode("ab", kPlain), ElementsAre(3));
}

TEST(BpeTokenizer, BytesWithoutATokenAreUnknownOrDropped) {
  TokenizerData data;
  data.model = "gpt2";
  data.pre = "gpt-2";
  data.tokens = {"a", "b", "ab", "?"};
  data.merges = {"a b"};
  EXPECT_THAT(Make(data)->Encode("abxb", kPlain), ElementsAre(2, 1));
  data.unknown = 3;
  EXPECT_THAT(Make(data)->Encode("abxb", kPlain), ElementsAre(2, 3, 1));
}

TEST(BpeTokenizer, BosIsAddedWhereTheFileOrThePreTokenizerAsks) {
  for (const char* pre : {"llama-bpe", "gpt-2"}) {
    TokenizerData data = TinyBpe(pre);
    data.bos = data.eos;
    const bool by_default = pre == std::string("llama-bpe");
    EXPECT_EQ(Texts(*Make(data), "aa"), by_default ? "<|endoftext|> aa" : "aa") << pre;
    data.add_bos = true;
    data.add_eos = true;
    EXPECT_EQ(Texts(*Make(data), "aa"), "<|endoftext|> aa <|endoftext|>") << pre;
    EXPECT_EQ(Texts(*Make(data), ""), "<|endoftext|> <|endoftext|>") << pre;
    data.add_bos = false;
    data.add_eos = false;
    EXPECT_EQ(Texts(*Make(data), "aa"), "aa") << pre;
  }
}

TEST(BpeTokenizer, AFileWithoutAPreTokenizerGetsTheDefault) {
  TokenizerData unnamed = TinyBpe("");
  const auto tokenizer = Make(unnamed);
  const auto named = Make(TinyBpe("default"));
  const std::string_view text = "(a+b)=1234 it's";
  EXPECT_EQ(tokenizer->Encode(text, {}), named->Encode(text, {}));
}

TEST(BpeTokenizer, MalformedMergesAreErrorsThatNameTheIndex) {
  TokenizerData data = TinyBpe("gpt-2");
  data.merges.clear();
  EXPECT_THAT(ErrorOf(data), HasSubstr("tokenizer.ggml.merges is missing"));
  for (const char* bad : {"ab", " a", "a ", "", "a  "}) {
    data = TinyBpe("gpt-2");
    data.merges[3] = bad;
    EXPECT_THAT(ErrorOf(data), HasSubstr("merge=3")) << bad;
  }
  data = TinyBpe("gpt-2");
  data.merges[2] = "zz y";
  EXPECT_THAT(ErrorOf(data), HasSubstr("not in the vocabulary: merge=2 text=\"zz y\""));
  data.pre = "nobody";
  EXPECT_THAT(ErrorOf(data), HasSubstr("nobody"));
}

TEST(BpeTokenizer, AnyBytesComeBack) {
  const auto tokenizer = Make(FixtureData(Fixture(), "llama-bpe"));
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 rng(seed);
    std::string text(rng() % 60, ' ');
    for (char& c : text) c = static_cast<char>(rng());
    ASSERT_EQ(tokenizer->Decode(tokenizer->Encode(text, {}), true), text) << "seed " << seed;
  }
}

// A quadratic merge loop would need 10^11 steps here.
TEST(BpeTokenizer, LongWordsAreTokenised) {
  constexpr size_t kLength = size_t{1} << 18;
  const auto tokenizer = Make(TinyBpe("llama-bpe"));
  EXPECT_EQ(tokenizer->Encode(std::string(kLength, 'a'), kPlain).size(), kLength / 4);
  EXPECT_EQ(tokenizer->Encode(std::string(kLength, ' '), kPlain).size(), kLength / 2);
  EXPECT_EQ(tokenizer->Encode(std::string(kLength, '\xFF'), kPlain).size(), kLength);
}

}  // namespace
}  // namespace thermocline::model
