#include "model/zip_archive.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/str.h"

namespace thermocline::model {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr uint32_t kLocalMagic = 0x04034b50, kDirectoryMagic = 0x02014b50, kEndMagic = 0x06054b50;
// Fixed parts of the three records.
constexpr size_t kLocalBytes = 30, kDirectoryBytes = 46, kEndBytes = 22;
constexpr size_t kMaxCommentBytes = 65535;
constexpr uint16_t kStored = 0, kEncryptedFlag = 1;
// In a 32-bit field: the value stands in a zip64 record.
constexpr uint32_t kInZip64 = 0xFFFFFFFF;

using Bytes = std::span<const std::byte>;

// `offset` + sizeof(T) has been checked.
template <typename T>
T Get(Bytes bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

bool Fits(Bytes bytes, uint64_t offset, uint64_t length) {
  return offset <= bytes.size() && length <= bytes.size() - offset;
}

// Where the end record lies: the last place that looks like one and whose comment ends the file.
Result<size_t> FindEnd(Bytes bytes) {
  if (bytes.size() >= kEndBytes) {
    const size_t last = bytes.size() - kEndBytes;
    const size_t first = last - std::min(last, kMaxCommentBytes);
    for (size_t at = last + 1; at-- > first;) {
      if (Get<uint32_t>(bytes, at) != kEndMagic) continue;
      if (at + kEndBytes + Get<uint16_t>(bytes, at + 20) == bytes.size()) return at;
    }
  }
  return InvalidArgument(Str("not a zip archive:", Kv("bytes", bytes.size())));
}

// The data of a member whose local header lies at `offset`.
Result<Bytes> DataOf(Bytes bytes, uint64_t offset, uint64_t size) {
  if (Fits(bytes, offset, kLocalBytes) && Get<uint32_t>(bytes, offset) == kLocalMagic) {
    const uint64_t begin = offset + kLocalBytes + Get<uint16_t>(bytes, offset + 26) +
                           Get<uint16_t>(bytes, offset + 28);
    if (Fits(bytes, begin, size)) return bytes.subspan(begin, size);
  }
  return DataLoss(Str("zip member outside its archive:", Kv("offset", offset), Kv("size", size),
                      Kv("archive", bytes.size())));
}

}  // namespace

Result<ZipArchive> ZipArchive::Parse(Bytes bytes) {
  TC_ASSIGN_OR_RETURN(const size_t end, FindEnd(bytes));
  const auto n_members = Get<uint16_t>(bytes, end + 10);
  if (n_members > kMaxMembers) {
    return InvalidArgument(
        Str("zip archive has too many members:", Kv("members", n_members), Kv("max", kMaxMembers)));
  }
  ZipArchive archive;
  uint64_t at = Get<uint32_t>(bytes, end + 16);
  for (int i = 0; i < n_members; ++i) {
    if (!Fits(bytes, at, kDirectoryBytes) || Get<uint32_t>(bytes, at) != kDirectoryMagic) {
      return DataLoss(Str("zip directory ends early:", Kv("member", i), Kv("members", n_members)));
    }
    const uint16_t name_bytes = Get<uint16_t>(bytes, at + 28);
    const uint64_t entry_bytes = uint64_t{kDirectoryBytes} + name_bytes +
                                 Get<uint16_t>(bytes, at + 30) + Get<uint16_t>(bytes, at + 32);
    if (!Fits(bytes, at, entry_bytes)) {
      return DataLoss(Str("zip directory ends early:", Kv("member", i), Kv("members", n_members)));
    }
    const uint32_t size = Get<uint32_t>(bytes, at + 20), offset = Get<uint32_t>(bytes, at + 42);
    if (size == kInZip64 || offset == kInZip64) {
      return InvalidArgument(Str("zip64 archives are not read:", Kv("member", i)));
    }
    Member member;
    member.is_stored = Get<uint16_t>(bytes, at + 10) == kStored &&
                       (Get<uint16_t>(bytes, at + 8) & kEncryptedFlag) == 0;
    TC_ASSIGN_OR_RETURN(member.bytes, DataOf(bytes, offset, size));
    const auto* const name = reinterpret_cast<const char*>(bytes.data() + at + kDirectoryBytes);
    archive.members_.insert_or_assign(std::string(name, name_bytes), member);
    at += entry_bytes;
  }
  return archive;
}

Result<Bytes> ZipArchive::Find(std::string_view name) const {
  for (const auto& [full, member] : members_) {
    const bool in_folder = full.size() > name.size() && full.ends_with(name) &&
                           full[full.size() - name.size() - 1] == '/' &&
                           full.find('/') == full.size() - name.size() - 1;
    if (full != name && !in_folder) continue;
    if (member.is_stored) return member.bytes;
    return InvalidArgument(Str("zip member is compressed or encrypted: ", Printable(full)));
  }
  return NotFound(Str("zip archive has no member: ", Printable(name)));
}

}  // namespace thermocline::model
