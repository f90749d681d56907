#include "model/sentencepiece_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/status_matchers.h"
#include "tests/support/test_paths.h"

namespace thermocline::model {
namespace {

using ::testing::HasSubstr;
using thermocline::testing::IsOk;

std::string TinyModel() {
  std::ifstream in(testing::TestDataPath("spm_tiny.model"), std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

// The library that wrote the file reads the same.
TEST(SentencePieceFile, AgreesWithTheLibrary) {
  const auto file = ParseSentencePieceFile(TinyModel());
  ASSERT_THAT(file.status(), IsOk());
  sentencepiece::SentencePieceProcessor library;
  ASSERT_TRUE(library.LoadFromSerializedProto(TinyModel()).ok());
  ASSERT_EQ(static_cast<int>(file->pieces.size()), library.GetPieceSize());
  for (int i = 0; i < library.GetPieceSize(); ++i) {
    const SentencePiece& piece = file->pieces[static_cast<size_t>(i)];
    EXPECT_EQ(piece.text, library.IdToPiece(i));
    EXPECT_EQ(piece.score, library.GetScore(i));
    EXPECT_EQ(piece.type == 2, library.IsUnknown(i));
    EXPECT_EQ(piece.type == 3, library.IsControl(i));
    EXPECT_EQ(piece.type == 6, library.IsByte(i));
  }
  EXPECT_TRUE(file->is_bpe);
  EXPECT_TRUE(file->adds_space_prefix);
  EXPECT_EQ(file->unknown_id, library.unk_id());
  EXPECT_EQ(file->bos_id, library.bos_id());
  EXPECT_EQ(file->eos_id, library.eos_id());
  EXPECT_EQ(file->pad_id.value_or(-1), library.pad_id());
}

// A file cut anywhere is refused or has fewer pieces; it is never read beyond its end.
TEST(SentencePieceFile, CutFilesAreHarmless) {
  const std::string whole = TinyModel();
  const size_t n_pieces = ParseSentencePieceFile(whole)->pieces.size();
  for (size_t n = 0; n < whole.size(); n += n < 200 ? 1 : 97) {
    const auto file = ParseSentencePieceFile(std::string_view(whole).substr(0, n));
    EXPECT_LE(file.ok() ? file->pieces.size() : 0, n_pieces);
  }
}

TEST(SentencePieceFile, LiesAreNamed) {
  const auto error = [](std::string_view bytes) {
    return ParseSentencePieceFile(bytes).status().message();
  };
  EXPECT_THAT(error(""), HasSubstr("no pieces"));
  EXPECT_THAT(error("\x0a\x7f"), HasSubstr("ends inside a field"));
  EXPECT_THAT(error("\x0b"), HasSubstr("wire_type=3"));
  EXPECT_THAT(error("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), HasSubstr("ends inside"));
  EXPECT_THAT(error("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), HasSubstr("64 bits"));
  EXPECT_THAT(error(std::string("\x0a\x02\x18\x09", 4)), HasSubstr("type=9"));
}

}  // namespace
}  // namespace thermocline::model
