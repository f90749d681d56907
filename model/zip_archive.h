// Members of a zip archive that are stored without compression, as PyTorch writes them.
//
// Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.16
// (end record). No zip64, no encryption, no archive over several files.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline::model {

// Names and the bytes behind them, which belong to who gave the archive. Immutable.
class ZipArchive {
 public:
  // kInvalidArgument: no zip archive, or a kind that this reader does not know; kDataLoss: a header
  // or member outside the archive. At most kMaxMembers.
  static Result<ZipArchive> Parse(std::span<const std::byte> bytes);
  static constexpr size_t kMaxMembers = 4096;  // a tensor takes three to five

  // The member whose name is "<anything>/<name>", as PyTorch puts all of them into one folder, or
  // `name`. kNotFound when there is none, kInvalidArgument when it is compressed.
  Result<std::span<const std::byte>> Find(std::string_view name) const;

 private:
  struct Member {
    bool is_stored = false;
    std::span<const std::byte> bytes;
  };
  std::map<std::string, Member, std::less<>> members_;
};

}  // namespace thermocline::model
