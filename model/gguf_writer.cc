#include "model/gguf_writer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "model/gguf_parser.h"
#include "model/gguf_types.h"

namespace thermocline::model {
namespace {

constexpr uint32_t kVersion = 3;
constexpr std::string_view kAlignmentKey = "general.alignment";
// Keys of one part of a split file; the file written is whole.
constexpr std::string_view kSplitKeys[] = {"split.no", "split.count", "split.tensors.count"};

// Temporary files of one target that others of this process may be writing, or that an earlier one
// with its number left when it was killed.
constexpr int kMaxTemporaryNames = 100;

template <typename T>
void Append(std::string* bytes, T value) {
  bytes->append(reinterpret_cast<const char*>(&value), sizeof value);
}

Status CheckShape(const GgufTensorSpec& tensor) {
  uint64_t n_elems = 1;
  const bool has_dims = !tensor.shape.empty() && tensor.shape.size() <= kMaxDims;
  for (const int64_t dim : tensor.shape) {
    if (dim <= 0 || !MulChecked(n_elems, static_cast<uint64_t>(dim), &n_elems)) n_elems = 0;
  }
  // Block sizes are below 4 bytes a weight.
  if (!has_dims || n_elems == 0 || n_elems > (uint64_t{1} << 60)) {
    return InvalidArgument(Str("tensor cannot be written with this shape: ", tensor.name,
                               Kv("dims", tensor.shape.size()), Kv("elements", n_elems)));
  }
  const DTypeTraits traits = Traits(tensor.dtype);
  if (static_cast<uint64_t>(tensor.n_cols()) % traits.block_elems == 0) return OkStatus();
  return InvalidArgument(Str("row is not a whole number of ", traits.name, " blocks: ", tensor.name,
                             Kv("row", tensor.n_cols()), Kv("block", traits.block_elems)));
}

// The finished file is renamed over its target, which would replace a device or a link by a file.
Status CheckTarget(const std::string& path) {
  struct stat target = {};
  if (lstat(path.c_str(), &target) != 0 || S_ISREG(target.st_mode)) return OkStatus();
  return InvalidArgument(Str("not a regular file, so it cannot be written to: ", path));
}

}  // namespace

int64_t GgufTensorSpec::n_rows() const {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
  return n;
}

uint64_t GgufTensorSpec::size_bytes() const {
  return static_cast<uint64_t>(n_rows()) * RowBytes(dtype, static_cast<uint64_t>(n_cols()));
}

Result<std::unique_ptr<GgufWriter>> GgufWriter::Create(const std::string& path, GgufDialect dialect,
                                                       const GgufMetadata& metadata,
                                                       std::vector<GgufTensorSpec> tensors) {
  TC_RETURN_IF_ERROR(CheckTarget(path));
  std::unique_ptr<GgufWriter> writer(new GgufWriter(path));
  writer->tensors_ = std::move(tensors);
  TC_RETURN_IF_ERROR(writer->CheckTensors(dialect));
  writer->PlaceTensors();
  GgufMetadata own = metadata;
  own.Remove(kAlignmentKey);
  for (const std::string_view key : kSplitKeys) own.Remove(key);
  const std::string header = writer->Header(dialect, own);
  writer->data_begin_ = RoundUp(header.size(), kDefaultAlignment);
  writer->file_bytes_ += writer->data_begin_;
  TC_RETURN_IF_ERROR(writer->OpenTemporary());
  TC_RETURN_IF_ERROR(writer->Reserve());
  TC_RETURN_IF_ERROR(writer->WriteAt(0, std::as_bytes(std::span(header))));
  return writer;
}

GgufWriter::~GgufWriter() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_path_.empty()) unlink(temporary_path_.c_str());
}

Status GgufWriter::CheckTensors(GgufDialect dialect) const {
  std::set<std::string_view> names;
  for (const GgufTensorSpec& tensor : tensors_) {
    if (tensor.name.empty() || tensor.name.size() > kMaxTensorNameBytes) {
      return InvalidArgument(Str("tensor name out of bounds: \"", Printable(tensor.name), "\"",
                                 Kv("bytes", tensor.name.size()), Kv("max", kMaxTensorNameBytes)));
    }
    if (!names.insert(tensor.name).second) {
      return InvalidArgument(Str("tensor name occurs twice: ", tensor.name));
    }
    TC_RETURN_IF_ERROR(CheckShape(tensor));
    if (!TensorTypeId(dialect, tensor.dtype)) {
      return InvalidArgument(
          Str("PowerInfer's dialect has no type ", DTypeName(tensor.dtype), ": ", tensor.name));
    }
  }
  return OkStatus();
}

void GgufWriter::PlaceTensors() {
  uint64_t next = 0;
  for (const GgufTensorSpec& tensor : tensors_) {
    offsets_.push_back(next);
    next = RoundUp(next + tensor.size_bytes(), kDefaultAlignment);
  }
  n_written_ = std::vector<std::atomic<uint64_t>>(tensors_.size());
  file_bytes_ = next;
}

std::string GgufWriter::Header(GgufDialect dialect, const GgufMetadata& metadata) const {
  std::string bytes = dialect == GgufDialect::kGguf ? "GGUF" : "PWRI";
  Append(&bytes, kVersion);
  Append(&bytes, uint64_t{tensors_.size()});
  Append(&bytes, uint64_t{metadata.size()});
  bytes += metadata.Encode();
  for (size_t i = 0; i < tensors_.size(); ++i) {
    const GgufTensorSpec& tensor = tensors_[i];
    Append(&bytes, uint64_t{tensor.name.size()});
    bytes += tensor.name;
    Append(&bytes, static_cast<uint32_t>(tensor.shape.size()));
    for (auto dim = tensor.shape.rbegin(); dim != tensor.shape.rend(); ++dim) Append(&bytes, *dim);
    Append(&bytes, *TensorTypeId(dialect, tensor.dtype));
    Append(&bytes, offsets_[i]);
  }
  return bytes;
}

Status GgufWriter::SystemError(std::string_view fact, int error) const {
  std::string message = Str(fact, ": ", path_, ": ", std::strerror(error));
  if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
    return ResourceExhausted(Str(message, Kv("file_bytes", file_bytes_)));
  }
  if (error == ENOENT || error == ENOTDIR) return NotFound(std::move(message));
  return Unavailable(std::move(message));
}

// Not by mkostemp, whose files are the owner's alone: opened so, the file gets the permissions that
// every other file of this process gets.
Status GgufWriter::OpenTemporary() {
  for (int attempt = 0; attempt < kMaxTemporaryNames; ++attempt) {
    std::string path = Str(path_, ".", getpid(), "-", attempt, ".tmp");
    fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ < 0 && errno == EEXIST) continue;
    if (fd_ < 0) return SystemError("cannot create", errno);
    temporary_path_ = std::move(path);
    return OkStatus();
  }
  return SystemError("cannot create", EEXIST);
}

Status GgufWriter::Reserve() {
  const auto size = static_cast<off_t>(file_bytes_);
  if (fallocate(fd_, 0, 0, size) == 0) return OkStatus();
  if (errno != EOPNOTSUPP) return SystemError("cannot reserve room", errno);
  if (ftruncate(fd_, size) != 0) return SystemError("cannot reserve room", errno);
  return OkStatus();
}

Status GgufWriter::WriteAt(uint64_t offset_bytes, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return SystemError("cannot write", errno);
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset_bytes += static_cast<uint64_t>(n);
  }
  return OkStatus();
}

Result<size_t> GgufWriter::IndexOf(std::string_view name) const {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (tensors_[i].name == name) return i;
  }
  return NotFound(Str("no such tensor in ", path_, ": ", Printable(name)));
}

Status GgufWriter::Put(size_t tensor, uint64_t offset_bytes, std::span<const std::byte> bytes) {
  const uint64_t size = tensors_[tensor].size_bytes();
  uint64_t end = 0;
  if (!AddChecked(offset_bytes, bytes.size(), &end) || end > size) {
    return InvalidArgument(Str("bytes beyond the tensor: ", tensors_[tensor].name,
                               Kv("offset", offset_bytes), Kv("bytes", bytes.size()),
                               Kv("size", size)));
  }
  TC_RETURN_IF_ERROR(WriteAt(data_begin_ + offsets_[tensor] + offset_bytes, bytes));
  n_written_[tensor] += bytes.size();
  return OkStatus();
}

Status GgufWriter::Finish() {
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (n_written_[i] == tensors_[i].size_bytes()) continue;
    return InvalidArgument(Str("tensor is not written once and whole: ", tensors_[i].name,
                               Kv("written", n_written_[i].load()),
                               Kv("size", tensors_[i].size_bytes())));
  }
  if (close(std::exchange(fd_, -1)) != 0) return SystemError("cannot write", errno);
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    return SystemError("cannot rename the finished file", errno);
  }
  temporary_path_.clear();
  return OkStatus();
}

}  // namespace thermocline::model
