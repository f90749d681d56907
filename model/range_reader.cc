#include "model/range_reader.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::model {
namespace {

std::string ErrnoText(int error) { return std::strerror(error); }

Status CheckRange(const RangeReader& reader, uint64_t offset_bytes, uint64_t n_bytes) {
  uint64_t end = 0;
  if (!AddChecked(offset_bytes, n_bytes, &end) || end > reader.size_bytes()) {
    return InvalidArgument(Str("range outside file: ", reader.name(), Kv("offset", offset_bytes),
                               Kv("bytes", n_bytes), Kv("file", reader.size_bytes())));
  }
  return OkStatus();
}

// Owns a file descriptor.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

// Owns the descriptor and the mapping of one regular file. Reads go through the descriptor, so that
// a file cut short while it is served gives an error there and only users of the mapping fault.
// Thread-safe.
class MappedFile final : public RangeReader {
 public:
  MappedFile(FileDescriptor fd, std::span<const std::byte> mapping, std::string path)
      : fd_(std::move(fd)), mapping_(mapping), path_(std::move(path)) {}
  ~MappedFile() override { munmap(const_cast<std::byte*>(mapping_.data()), mapping_.size()); }

  uint64_t size_bytes() const override { return mapping_.size(); }
  const std::string& name() const override { return path_; }
  std::span<const std::byte> Mapping() const override { return mapping_; }

  Status Read(uint64_t offset_bytes, std::span<std::byte> out) const override {
    TC_RETURN_IF_ERROR(CheckRange(*this, offset_bytes, out.size()));
    while (!out.empty()) {
      const ssize_t n = pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(offset_bytes));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) {
        return Unavailable(Str("cannot read: ", path_, ": ", ErrnoText(errno),
                               Kv("offset", offset_bytes), Kv("bytes", out.size())));
      }
      if (n == 0) {
        return DataLoss(Str("file has become shorter: ", path_, Kv("offset", offset_bytes),
                            Kv("bytes", out.size())));
      }
      out = out.subspan(static_cast<size_t>(n));
      offset_bytes += static_cast<uint64_t>(n);
    }
    return OkStatus();
  }

  void Evict(uint64_t offset_bytes, uint64_t n_bytes) const override {
    const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
    const uint64_t begin = RoundUp(offset_bytes, page);
    const uint64_t end = (offset_bytes + n_bytes) / page * page;
    if (end <= begin || end > mapping_.size()) return;
    (void)madvise(const_cast<std::byte*>(mapping_.data()) + begin, end - begin, MADV_DONTNEED);
  }

 private:
  FileDescriptor fd_;
  std::span<const std::byte> mapping_;
  std::string path_;
};

// Borrows bytes in memory. Thread-safe.
class MemoryReader final : public RangeReader {
 public:
  MemoryReader(std::span<const std::byte> bytes, std::string name)
      : bytes_(bytes), name_(std::move(name)) {}

  uint64_t size_bytes() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  std::span<const std::byte> Mapping() const override { return bytes_; }

  Status Read(uint64_t offset_bytes, std::span<std::byte> out) const override {
    TC_RETURN_IF_ERROR(CheckRange(*this, offset_bytes, out.size()));
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset_bytes, out.size());
    return OkStatus();
  }

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
};

Result<uint64_t> RegularFileSize(int fd, const std::string& path) {
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return Unavailable(Str("cannot stat: ", path, ": ", ErrnoText(errno)));
  }
  if (!S_ISREG(info.st_mode)) return InvalidArgument(Str("not a regular file: ", path));
  if (info.st_size == 0) return InvalidArgument(Str("empty file: ", path));
  return static_cast<uint64_t>(info.st_size);
}

}  // namespace

Result<std::unique_ptr<RangeReader>> OpenMappedFile(const std::string& path) {
  // Non-blocking, so that opening a pipe by mistake is refused below instead of waiting for ever.
  FileDescriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) {
    const int error = errno;
    if (error == ENOENT || error == ENOTDIR) return NotFound(Str("no such file: ", path));
    return Unavailable(Str("cannot open: ", path, ": ", ErrnoText(error)));
  }
  TC_ASSIGN_OR_RETURN(const uint64_t n_bytes, RegularFileSize(fd.get(), path));
  void* data = mmap(nullptr, n_bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) {
    return Unavailable(Str("cannot map: ", path, ": ", ErrnoText(errno), Kv("bytes", n_bytes)));
  }
  const std::span<const std::byte> mapping(static_cast<const std::byte*>(data), n_bytes);
  return std::unique_ptr<RangeReader>(std::make_unique<MappedFile>(std::move(fd), mapping, path));
}

std::unique_ptr<RangeReader> ReadFromMemory(std::span<const std::byte> bytes, std::string name) {
  return std::make_unique<MemoryReader>(bytes, std::move(name));
}

}  // namespace thermocline::model
