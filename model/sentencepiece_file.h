// Reads the pieces of a SentencePiece model file (tokenizer.model), a Protobuf message.
//
// Source: github.com/google/sentencepiece src/sentencepiece_model.proto (field numbers and enums);
// protobuf.dev/programming-guides/encoding (the wire format). Only the fields used here are read,
// the others are skipped by their wire type.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace thermocline::model {

// Longest file that is read; published ones have up to 5 MiB.
inline constexpr uint64_t kMaxSentencePieceBytes = uint64_t{64} << 20;

struct SentencePiece {
  std::string text;
  float score = 0;
  int32_t type = 1;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte: as in GGUF
};

struct SentencePieceFile {
  std::vector<SentencePiece> pieces;
  bool is_bpe = false;  // else another algorithm, unigram unless the file says so
  bool adds_space_prefix = true;
  std::optional<int32_t> unknown_id, bos_id, eos_id, pad_id;  // nullopt: switched off by -1
};

// kDataLoss: cut short or not Protobuf; kInvalidArgument: no pieces, or too many.
Result<SentencePieceFile> ParseSentencePieceFile(std::string_view bytes);

}  // namespace thermocline::model
