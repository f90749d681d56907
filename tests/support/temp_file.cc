#include "tests/support/temp_file.h"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "base/check.h"

namespace thermocline::testing {

TempFile::TempFile(std::span<const std::byte> bytes)
    : path_((std::filesystem::temp_directory_path() / "thermocline-XXXXXX").string()) {
  const int fd = mkstemp(path_.data());
  CHECK(fd >= 0);
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    CHECK(n > 0);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  CHECK(close(fd) == 0);
}

TempFile::~TempFile() {
  std::error_code ignored;  // a file that is gone already is fine
  std::filesystem::remove(path_, ignored);
}

}  // namespace thermocline::testing
