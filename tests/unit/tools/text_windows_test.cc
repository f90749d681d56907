#include "tools/profile/text_windows.h"

#include <gtest/gtest.h>

#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::tools {
namespace {

using testing::TempFile;

std::string Bytes(size_t n) { return std::string(n, 'x'); }

std::unique_ptr<model::Tokenizer> TinyTokenizer(bool add_bos) {
  testing::GgufImage image = testing::TinyModelImage({});
  image.Key("tokenizer.ggml.add_bos_token").payload = std::string(1, add_bos ? '\1' : '\0');
  const std::vector<std::byte> bytes = image.Bytes();
  const auto file = model::GgufFile::Parse(*model::ReadFromMemory(bytes, "tiny"));
  return std::move(model::Tokenizer::FromGguf(*file)).value();
}

TEST(ReadText, GivesTheBytesOfValidFilesOnly) {
  const std::string good = "caf\xc3\xa9\n";
  EXPECT_EQ(*ReadText(TempFile(std::as_bytes(std::span(good))).path()), good);
  const std::string bad = "caf\xe9 is not UTF-8";
  const TempFile file(std::as_bytes(std::span(bad)));
  const auto text = ReadText(file.path());
  EXPECT_EQ(text.status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(text.status().message(),
            "text is not UTF-8: " + file.path() + " offset_bytes=3 byte=233");
  EXPECT_EQ(ReadText("/nowhere/text").status().code(), StatusCode::kNotFound);
}

TEST(OpenTokenizer, AFileWithoutOneIsRefused) {
  testing::GgufImage image = testing::TinyModelImage({});
  image.Key("tokenizer.ggml.model").payload = testing::PackedString("none");
  const TempFile file(image.Bytes());
  const auto model = worker::OpenModel(file.path());
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokenizer = OpenTokenizer(*model);
  EXPECT_EQ(tokenizer.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(tokenizer.status().message().find("no tokenizer"), std::string::npos);
}

TEST(CutWindows, CoversTheTextInOrder) {
  const auto tokenizer = TinyTokenizer(false);
  const std::string text = "abcdefghijklmnopqrstuvwxyz";
  const auto cut = CutWindows(*tokenizer, text, 100, 10, 1);
  ASSERT_TRUE(cut.ok()) << cut.status();
  ASSERT_EQ(cut->windows.size(), 3u);
  std::vector<int32_t> joined;
  for (const Window& window : cut->windows) {
    joined.insert(joined.end(), window.begin(), window.end());
  }
  EXPECT_EQ(tokenizer->Decode(joined, false), text);
  EXPECT_EQ(cut->n_tokens(), 26u);
}

TEST(CutWindows, BeginsEachWithTheBeginTokenWhenTheModelWantsOne) {
  const auto tokenizer = TinyTokenizer(true);
  const auto cut = CutWindows(*tokenizer, Bytes(20), 100, 10, 1);
  ASSERT_TRUE(cut.ok());
  for (const Window& window : cut->windows) {
    EXPECT_EQ(window.front(), 1);
    EXPECT_LE(window.size(), 10u);
  }
  EXPECT_EQ(cut->n_tokens(), 23u);  // three windows
}

TEST(CutWindows, StopsAtTheLimitAndDropsATailOfOneToken) {
  const auto tokenizer = TinyTokenizer(false);
  EXPECT_EQ(CutWindows(*tokenizer, Bytes(100), 20, 10, 1)->n_tokens(), 20u);
  EXPECT_EQ(CutWindows(*tokenizer, Bytes(100), 21, 10, 1)->n_tokens(), 20u);
  EXPECT_EQ(CutWindows(*tokenizer, Bytes(100), 22, 10, 1)->n_tokens(), 22u);
}

TEST(CutWindows, AShortTextIsRefused) {
  const auto cut = CutWindows(*TinyTokenizer(false), Bytes(5), 100, 10, 10);
  EXPECT_EQ(cut.status().message(), "text is too short: tokens=5 needed=10 bytes=5");
}

TEST(SplitHeldOut, TakesTheEndAndLeavesSomething) {
  for (const auto& [fraction, n_held_out] : {std::pair{0.1, 1u}, {0.3, 3u}, {0.99, 9u}}) {
    auto cut = CutWindows(*TinyTokenizer(false), Bytes(100), 100, 10, 1);
    cut->windows.back().back() = 7;
    const auto held_out = SplitHeldOut(fraction, &*cut);
    ASSERT_TRUE(held_out.ok());
    EXPECT_EQ(held_out->windows.size(), n_held_out);
    EXPECT_EQ(cut->windows.size(), 10 - n_held_out);
    EXPECT_EQ(held_out->windows.back().back(), 7);
  }
  auto one = CutWindows(*TinyTokenizer(false), Bytes(10), 100, 10, 1);
  EXPECT_EQ(SplitHeldOut(0.1, &*one).status().code(), StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace thermocline::tools
