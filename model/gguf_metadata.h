// Metadata of a GGUF file that is to be written: keys with values already in the file's encoding.
//
// A value keeps the type it was given or read with, so that a copied file differs from its source
// in nothing that was not changed on purpose (GgufFile widens integers and loses their width).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/range_reader.h"

namespace thermocline::model {

// Ordered as the keys were first set; setting a key again replaces its value. Thread-compatible.
class GgufMetadata {
 public:
  // Every key of the file behind `reader` with its exact bytes. The codes of GgufFile::Parse.
  static Result<GgufMetadata> CopyOf(const RangeReader& reader);

  void SetU32(std::string_view key, uint32_t value);
  void SetI32(std::string_view key, int32_t value);
  void SetU64(std::string_view key, uint64_t value);
  void SetF32(std::string_view key, float value);
  void SetBool(std::string_view key, bool value);
  void SetString(std::string_view key, std::string_view value);
  void SetU32s(std::string_view key, std::span<const uint32_t> values);
  void SetI32s(std::string_view key, std::span<const int32_t> values);
  void SetF32s(std::string_view key, std::span<const float> values);
  void SetStrings(std::string_view key, std::span<const std::string> values);

  bool Has(std::string_view key) const;
  // Whether there was such a key.
  bool Remove(std::string_view key);
  size_t size() const { return entries_.size(); }

  // The key-value section of a header, without its count.
  std::string Encode() const;

 private:
  struct Entry {
    std::string key;
    std::string value;  // the type id and what follows it
  };
  void Set(std::string_view key, std::string value);

  std::vector<Entry> entries_;
};

}  // namespace thermocline::model
