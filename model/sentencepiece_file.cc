#include "model/sentencepiece_file.h"

#include <cstring>
#include <utility>

#include "base/str.h"
#include "model/config.h"

namespace thermocline::model {
namespace {

enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

// One field of a message: the number that its wire type carries, or the bytes.
struct Field {
  uint32_t number = 0;
  WireType type = WireType::kVarint;
  uint64_t value = 0;      // kVarint, kFixed32, kFixed64
  std::string_view bytes;  // kBytes
};

// Walks the fields of one message. Borrows the bytes; lives on the stack. Thread-compatible.
class MessageReader {
 public:
  explicit MessageReader(std::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }
  // kDataLoss when the message ends inside the field or the field is of no known wire type.
  Result<Field> Next() {
    Field field;
    TC_ASSIGN_OR_RETURN(const uint64_t tag, ReadVarint());
    field.number = static_cast<uint32_t>(tag >> 3);
    field.type = static_cast<WireType>(tag & 7);
    switch (field.type) {
      case WireType::kVarint: {
        TC_ASSIGN_OR_RETURN(field.value, ReadVarint());
        return field;
      }
      case WireType::kFixed64:
        TC_RETURN_IF_ERROR(ReadFixed(8, &field.value));
        return field;
      case WireType::kFixed32:
        TC_RETURN_IF_ERROR(ReadFixed(4, &field.value));
        return field;
      case WireType::kBytes: {
        TC_ASSIGN_OR_RETURN(const uint64_t n_bytes, ReadVarint());
        if (n_bytes > rest_.size()) return CutShort();
        field.bytes = rest_.substr(0, n_bytes);
        rest_.remove_prefix(n_bytes);
        return field;
      }
    }
    return DataLoss(Str("tokenizer.model is no Protobuf message:", Kv("wire_type", tag & 7)));
  }

 private:
  static Status CutShort() { return DataLoss("tokenizer.model ends inside a field"); }

  Result<uint64_t> ReadVarint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return CutShort();
      const auto byte = static_cast<uint8_t>(rest_.front());
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    return DataLoss("tokenizer.model has a number of more than 64 bits");
  }

  Status ReadFixed(size_t n_bytes, uint64_t* value) {
    if (rest_.size() < n_bytes) return CutShort();
    std::memcpy(value, rest_.data(), n_bytes);
    rest_.remove_prefix(n_bytes);
    return OkStatus();
  }

  std::string_view rest_;
};

// ModelProto
constexpr uint32_t kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3;
// ModelProto.SentencePiece
constexpr uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
// TrainerSpec
constexpr uint32_t kModelType = 3, kUnkId = 40, kBosId = 41, kEosId = 42, kPadId = 43;
constexpr uint64_t kModelTypeBpe = 2;
// NormalizerSpec
constexpr uint32_t kAddDummyPrefix = 3;

Result<SentencePiece> ParsePiece(std::string_view bytes) {
  SentencePiece piece;
  for (MessageReader reader(bytes); !reader.done();) {
    TC_ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.number == kPieceText && field.type == WireType::kBytes) {
      piece.text = field.bytes;
    } else if (field.number == kPieceScore && field.type == WireType::kFixed32) {
      const auto bits = static_cast<uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof bits);
    } else if (field.number == kPieceType && field.type == WireType::kVarint) {
      piece.type = static_cast<int32_t>(field.value);
    }
  }
  if (piece.type < 1 || piece.type > 6) {
    return DataLoss(Str("unknown type of a piece of tokenizer.model:", Kv("type", piece.type)));
  }
  return piece;
}

std::optional<int32_t> IdOf(uint64_t value) {
  const auto id = static_cast<int64_t>(value);
  if (id < 0 || id > kMaxVocab) return std::nullopt;
  return static_cast<int32_t>(id);
}

Status ParseTrainerSpec(std::string_view bytes, SentencePieceFile* file) {
  for (MessageReader reader(bytes); !reader.done();) {
    TC_ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.type != WireType::kVarint) continue;
    if (field.number == kModelType) file->is_bpe = field.value == kModelTypeBpe;
    if (field.number == kUnkId) file->unknown_id = IdOf(field.value);
    if (field.number == kBosId) file->bos_id = IdOf(field.value);
    if (field.number == kEosId) file->eos_id = IdOf(field.value);
    if (field.number == kPadId) file->pad_id = IdOf(field.value);
  }
  return OkStatus();
}

Status ParseNormalizerSpec(std::string_view bytes, SentencePieceFile* file) {
  for (MessageReader reader(bytes); !reader.done();) {
    TC_ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.number == kAddDummyPrefix && field.type == WireType::kVarint) {
      file->adds_space_prefix = field.value != 0;
    }
  }
  return OkStatus();
}

}  // namespace

Result<SentencePieceFile> ParseSentencePieceFile(std::string_view bytes) {
  SentencePieceFile file;
  // The defaults of the message.
  file.unknown_id = 0;
  file.bos_id = 1;
  file.eos_id = 2;
  for (MessageReader reader(bytes); !reader.done();) {
    TC_ASSIGN_OR_RETURN(const Field field, reader.Next());
    if (field.type != WireType::kBytes) continue;
    if (field.number == kPieces) {
      if (file.pieces.size() >= static_cast<size_t>(kMaxVocab)) {
        return InvalidArgument(Str("too many pieces in tokenizer.model:", Kv("max", kMaxVocab)));
      }
      TC_ASSIGN_OR_RETURN(SentencePiece piece, ParsePiece(field.bytes));
      file.pieces.push_back(std::move(piece));
    } else if (field.number == kTrainerSpec) {
      TC_RETURN_IF_ERROR(ParseTrainerSpec(field.bytes, &file));
    } else if (field.number == kNormalizerSpec) {
      TC_RETURN_IF_ERROR(ParseNormalizerSpec(field.bytes, &file));
    }
  }
  if (file.pieces.empty()) return InvalidArgument("tokenizer.model has no pieces");
  return file;
}

}  // namespace thermocline::model
