#include "model/fingerprint.h"

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "base/hash.h"
#include "base/units.h"

namespace thermocline::model {
namespace {

constexpr uint64_t kSamplesPerTensor = 3;
// A page: what a disk reads at least.
constexpr uint64_t kMaxSampleBytes = 4 * kKiB;
// A sample of fewer weights would say little; only models of kilobytes come down to this.
constexpr uint64_t kMinSampleBytes = 64;
// Bounds of all samples together: a worker may read this much that is not of its own stage, where
// 2 % are allowed, and keeps it in memory for the moment.
constexpr uint64_t kMaxShareOfData = 64;
constexpr uint64_t kMaxTotalBytes = 16 * kMiB;

// Follows from the header alone, so that it is the same wherever the file lies.
uint64_t SampleBytes(const std::vector<TensorInfo>& tensors) {
  uint64_t data_bytes = 0;
  for (const TensorInfo& tensor : tensors) data_bytes += tensor.size_bytes;
  const uint64_t total = std::min(data_bytes / kMaxShareOfData, kMaxTotalBytes);
  const uint64_t n_samples = std::max<uint64_t>(kSamplesPerTensor * tensors.size(), 1);
  return std::clamp(total / n_samples, kMinSampleBytes, kMaxSampleBytes);
}

Status AppendRange(const RangeReader& reader, uint64_t offset_bytes, uint64_t n_bytes,
                   std::vector<std::byte>* out) {
  const size_t at = out->size();
  out->resize(at + n_bytes);
  return reader.Read(offset_bytes, std::span(*out).subspan(at));
}

Status AppendSamples(const RangeReader& reader, const TensorInfo& tensor, uint64_t sample_bytes,
                     std::vector<std::byte>* out) {
  if (tensor.size_bytes <= kSamplesPerTensor * sample_bytes) {
    return AppendRange(reader, tensor.offset_bytes, tensor.size_bytes, out);
  }
  const uint64_t last = tensor.size_bytes - sample_bytes;
  for (const uint64_t at : {uint64_t{0}, last / 2, last}) {
    TC_RETURN_IF_ERROR(AppendRange(reader, tensor.offset_bytes + at, sample_bytes, out));
  }
  return OkStatus();
}

}  // namespace

Result<std::string> FingerprintOf(const RangeReader& reader, const GgufFile& file) {
  std::vector<std::byte> bytes;
  TC_RETURN_IF_ERROR(AppendRange(reader, 0, file.header_bytes(), &bytes));
  const std::string header = Fingerprint128(bytes);
  const uint64_t size_bytes = reader.size_bytes();
  // The header may be megabytes of vocabulary: the samples take its memory.
  bytes.resize(header.size() + sizeof size_bytes);
  std::memcpy(bytes.data(), header.data(), header.size());
  std::memcpy(bytes.data() + header.size(), &size_bytes, sizeof size_bytes);
  const uint64_t sample_bytes = SampleBytes(file.tensors());
  for (const TensorInfo& tensor : file.tensors()) {
    TC_RETURN_IF_ERROR(AppendSamples(reader, tensor, sample_bytes, &bytes));
  }
  return Fingerprint128(bytes);
}

}  // namespace thermocline::model
