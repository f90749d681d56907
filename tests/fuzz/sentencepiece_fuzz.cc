// Any bytes as a tokenizer.model.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "model/sentencepiece_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;
  const auto file = model::ParseSentencePieceFile({reinterpret_cast<const char*>(data), size});
  if (!file.ok()) return 0;
  CHECK(!file->pieces.empty());
  for (const model::SentencePiece& piece : file->pieces) {
    CHECK(piece.type >= 1 && piece.type <= 6);
    CHECK(piece.text.size() <= size);
  }
  return 0;
}
