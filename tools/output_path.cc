#include "tools/output_path.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "base/str.h"

namespace thermocline::tools {
namespace {

namespace fs = std::filesystem;

// Also of files that do not exist yet.
bool IsSameFile(const std::string& a, const std::string& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  const fs::path first = fs::weakly_canonical(a, error);
  return !error && first == fs::weakly_canonical(b, error) && !error;
}

// Making a file is the only sure answer: permissions say nothing of file systems that are read
// only.
Status TryToMake(const std::string& path) {
  const std::string probe = Str(path, ".", getpid(), ".tmp");
  const int fd = open(probe.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno != EEXIST) {
    const std::string message = Str("cannot be written: ", path, ": ", std::strerror(errno));
    return errno == ENOENT ? NotFound(message) : InvalidArgument(message);
  }
  if (fd < 0) return OkStatus();
  close(fd);
  unlink(probe.c_str());
  return OkStatus();
}

Status CheckOutput(const std::string& path) {
  if (path == "-") return InvalidArgument("stdout is not a file; a file of that name is ./-");
  struct stat target = {};
  const bool exists = lstat(path.c_str(), &target) == 0;
  if (exists && !S_ISREG(target.st_mode)) {
    return InvalidArgument(Str("not a regular file, so it cannot be written to: ", path));
  }
  if (path.ends_with('/')) return InvalidArgument(Str("a folder, not a file: ", path));
  return TryToMake(path);
}

}  // namespace

Status CheckOutputs(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const NamedPath& output = outputs[i];
    for (const NamedPath& input : inputs) {
      if (!IsSameFile(output.path, input.path)) continue;
      return InvalidArgument(Str(output.flag, " is the input of ", input.flag, ": ", output.path));
    }
    for (size_t k = 0; k < i; ++k) {
      if (!IsSameFile(output.path, outputs[k].path)) continue;
      return InvalidArgument(
          Str(output.flag, " and ", outputs[k].flag, " are the same file: ", output.path));
    }
    TC_RETURN_IF_ERROR(CheckOutput(output.path).WithContext(output.flag));
  }
  return OkStatus();
}

}  // namespace thermocline::tools
