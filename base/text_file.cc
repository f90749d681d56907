#include "base/text_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/str.h"
#include "base/units.h"

namespace thermocline {
namespace {

// Of one call; a text is rarely longer.
constexpr uint64_t kBlockBytes = 64 * kKiB;

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

Status CannotRead(const std::string& path) {
  return NotFound(Str("cannot read ", path, ": ", std::strerror(errno)));
}

// Before it is opened, which some devices notice.
Status CheckIsText(const std::string& path) {
  struct stat found = {};
  if (stat(path.c_str(), &found) != 0) return CannotRead(path);
  if (S_ISREG(found.st_mode) || S_ISFIFO(found.st_mode)) return OkStatus();
  return InvalidArgument(Str("cannot read ", path,
                             S_ISDIR(found.st_mode) ? ": it is a folder, not a file"
                                                    : ": it is neither a file nor a pipe"));
}

}  // namespace

Result<std::string> ReadTextFile(const std::string& path, uint64_t max_bytes) {
  TC_RETURN_IF_ERROR(CheckIsText(path));
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(path.c_str(), "rbe"));
  if (file == nullptr) return CannotRead(path);
  std::string text;
  while (text.size() <= max_bytes) {
    const uint64_t n_wanted = std::min(kBlockBytes, max_bytes + 1 - text.size());
    const size_t n_before = text.size();
    text.resize(n_before + n_wanted);
    const size_t n_read = std::fread(text.data() + n_before, 1, n_wanted, file.get());
    text.resize(n_before + n_read);
    if (n_read == n_wanted) continue;
    if (std::ferror(file.get()) == 0) return text;
    return Unavailable(Str("cannot read ", path, ": ", std::strerror(errno)));
  }
  return InvalidArgument(Str("file is too large: ", path, Kv("max_bytes", max_bytes)));
}

}  // namespace thermocline
