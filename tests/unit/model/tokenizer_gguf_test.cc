// Tokenizers from the metadata of GGUF files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/range_reader.h"
#include "model/tokenizer.h"
#include "tests/support/gguf_image.h"
#include "tests/support/test_paths.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_tokenizers.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::GgufImage;
using thermocline::testing::TinyBpe;
using thermocline::testing::TinyModelImage;
using thermocline::testing::TinySpm;

// A file with nothing but the metadata of `data`.
GgufImage ImageOf(const TokenizerData& data) {
  GgufImage image;
  image.AddString("general.architecture", "llama");
  image.AddString("tokenizer.ggml.model", data.model);
  if (!data.pre.empty()) image.AddString("tokenizer.ggml.pre", data.pre);
  image.AddStrings("tokenizer.ggml.tokens", data.tokens);
  image.AddF32s("tokenizer.ggml.scores", data.scores);
  image.AddI32s("tokenizer.ggml.token_type", {data.types.begin(), data.types.end()});
  if (!data.merges.empty()) image.AddStrings("tokenizer.ggml.merges", data.merges);
  if (data.eos) image.AddU32("tokenizer.ggml.eos_token_id", static_cast<uint32_t>(*data.eos));
  return image;
}

Result<std::unique_ptr<Tokenizer>> FromImage(const GgufImage& image) {
  const std::vector<std::byte> bytes = image.Bytes();
  TC_ASSIGN_OR_RETURN(const GgufFile file,
                      GgufFile::Parse(*ReadFromMemory(bytes, "tokenizer_gguf_test")));
  return Tokenizer::FromGguf(file);
}

TEST(TokenizerFromGguf, GivesTheSameTokenizerAsItsParts) {
  for (const TokenizerData& data : {TinySpm(), TinyBpe("llama-bpe"), TinyBpe("qwen2")}) {
    const auto from_file = FromImage(ImageOf(data));
    ASSERT_TRUE(from_file.ok()) << from_file.status();
    const auto from_parts = MakeTokenizer(data);
    ASSERT_TRUE(from_parts.ok()) << from_parts.status();
    const std::string_view text = "hello world <sep> aaaaa 1234 é<|im_end|>";
    EXPECT_EQ((*from_file)->Encode(text, {}), (*from_parts)->Encode(text, {}));
    EXPECT_EQ((*from_file)->special().end_ids, (*from_parts)->special().end_ids);
  }
}

TEST(TokenizerFromGguf, FlagsAndIdsOfTheFileAreHeard) {
  GgufImage image = ImageOf(TinySpm());
  image.AddBool("tokenizer.ggml.add_bos_token", false);
  image.AddBool("tokenizer.ggml.add_eos_token", true);
  image.AddBool("tokenizer.ggml.add_space_prefix", false);
  image.AddU32("tokenizer.ggml.bos_token_id", 4);
  image.AddU32("tokenizer.ggml.eos_token_id", 5);
  image.AddU32("tokenizer.ggml.eot_token_id", 6);
  image.AddU32("tokenizer.ggml.eom_token_id", 7);
  image.AddU32("tokenizer.ggml.unknown_token_id", 8);
  image.AddU32("tokenizer.ggml.padding_token_id", 9);
  const auto tokenizer = FromImage(image);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const SpecialTokens& special = (*tokenizer)->special();
  EXPECT_FALSE(special.add_bos);
  EXPECT_TRUE(special.add_eos);
  EXPECT_EQ(special.bos, 4);
  EXPECT_EQ(special.eos, 5);
  EXPECT_EQ(special.eot, 6);
  EXPECT_EQ(special.eom, 7);
  EXPECT_EQ(special.unknown, 8);
  EXPECT_EQ(special.padding, 9);
  const auto ids = (*tokenizer)->Encode(" hello", {.add_special = false});
  EXPECT_EQ((*tokenizer)->Decode(ids, false), " hello");
}

TEST(TokenizerFromGguf, MissingKeysAreNamed) {
  for (const char* key :
       {"tokenizer.ggml.model", "tokenizer.ggml.tokens", "tokenizer.ggml.scores"}) {
    GgufImage image = ImageOf(TinySpm());
    image.RemoveKey(key);
    const Status status = FromImage(image).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(status.message(), HasSubstr(key));
  }
  GgufImage image = ImageOf(TinyBpe("qwen2"));
  image.RemoveKey("tokenizer.ggml.merges");
  EXPECT_THAT(FromImage(image).status().message(), HasSubstr("tokenizer.ggml.merges is missing"));
}

TEST(TokenizerFromGguf, KeysOfTheWrongTypeAreNamed) {
  for (const char* key :
       {"tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type",
        "tokenizer.ggml.merges", "tokenizer.ggml.pre", "tokenizer.ggml.eos_token_id"}) {
    GgufImage image = ImageOf(TinyBpe("qwen2"));
    image.RemoveKey(key);
    image.AddBool(key, true);
    const Status status = FromImage(image).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(status.message(), HasSubstr(key));
  }
}

TEST(TokenizerFromGguf, AFileWithoutATokenizerIsNotFound) {
  GgufImage image;
  image.AddString("tokenizer.ggml.model", "none");
  EXPECT_EQ(FromImage(image).status().code(), StatusCode::kNotFound);
}

// Written by another program: ids 0 to 2 special, 3 to 258 bytes, then user-defined tokens.
TEST(TokenizerFromGguf, ACommittedFileOfAnotherProgram) {
  const auto reader = OpenMappedFile(testing::TestDataPath("arcee-q4_0.gguf"));
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto file = GgufFile::Parse(**reader);
  ASSERT_TRUE(file.ok()) << file.status();
  const auto tokenizer = Tokenizer::FromGguf(*file);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->n_vocab(), 320);
  EXPECT_THAT((*tokenizer)->Encode("<t00300><t00301>A", {}), ElementsAre(300, 301, 3 + 'A'));
  EXPECT_THAT((*tokenizer)->Encode("<s>\xFF</s>", {}), ElementsAre(1, 3 + 255, 2));
  EXPECT_THAT((*tokenizer)->special().end_ids, ElementsAre(2));
  EXPECT_EQ((*tokenizer)->Decode(std::vector<int32_t>{300, 3 + 'A', 2}, false), "<t00300>A");
}

TEST(TokenizerFromGguf, TinyModelsHaveOneThatGivesTextBack) {
  const auto tokenizer = FromImage(TinyModelImage({}));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string_view text = "any\ttext\n\xFF é";
  const auto ids = (*tokenizer)->Encode(text, {});
  EXPECT_GT(ids.size(), 5u);
  for (const int32_t id : ids) EXPECT_LT(id, (*tokenizer)->n_vocab());
}

}  // namespace
}  // namespace thermocline::model
