// A file that exists as long as a test needs it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace thermocline::testing {

// Owns a file in the system's temporary directory and removes it. Thread-compatible.
class TempFile {
 public:
  explicit TempFile(std::span<const std::byte> bytes);
  ~TempFile();
  TempFile(const TempFile&) = delete;
  TempFile& operator=(const TempFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace thermocline::testing
