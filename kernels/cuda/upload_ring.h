// Small things of the host's on their way to the device: ids, positions, page tables.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/buffer.h"
#include "kernels/cuda/work_queue.h"

namespace thermocline::kernels::cuda {

// What is uploaded; of each kind, the last is kept in mind: a step's layers upload the same.
enum class UploadKind : uint8_t {
  kIds,
  kPositions,
  kFrequencies,
  kPages,
  kSequences,
  kRows,
  kTiles
};
inline constexpr int kUploadKinds = 7;

// A ring of page-locked segments, each with its like in the device's memory. Owned by the ops.
// Thread-compatible.
class UploadRing {
 public:
  explicit UploadRing(WorkQueue& queue) : queue_(queue) {}
  ~UploadRing();
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;

  // Between steps: has room for lists of n_bytes, and no more memory than that wants, so that an
  // upload of fewer waits for no allocation. kResourceExhausted without memory: the queue has
  // failed then.
  Status Reserve(uint64_t n_bytes);

  // The items in the device's memory, for ops called before the next three segments are full. Null
  // when there is no memory for them: the queue has failed then.
  template <typename T>
  const T* Upload(UploadKind kind, std::span<const T> items) {
    return reinterpret_cast<const T*>(UploadBytes(kind, std::as_bytes(items)));
  }
  // Page-locked room for n_bytes that a copy reads which is enqueued before the next three segments
  // are full. Null as Upload.
  std::byte* Stage(uint64_t n_bytes);

 private:
  // Enough for some hundred steps of decoding, or a prefill of many sequences.
  static constexpr uint64_t kSegmentBytes = uint64_t{512} << 10;
  static constexpr uint64_t kSegments = 8;
  // A segment is used again when the work of this many after it is done too: an op may use items of
  // several.
  static constexpr uint64_t kSegmentsPerOp = 3;
  static constexpr uint64_t kAlignBytes = 16;
  // That lists of n_bytes fit, and others beside them.
  static uint64_t SegmentFor(uint64_t n_bytes);

  struct Kept {
    const std::byte* host = nullptr;
    const std::byte* device = nullptr;
    uint64_t n_bytes = 0;
    uint64_t generation = 0;  // of the segment; valid while it is the current one
  };

  const std::byte* UploadBytes(UploadKind kind, std::span<const std::byte> bytes);
  bool MakeRoom(uint64_t n_bytes);
  Status Grow(uint64_t segment_bytes);
  void Release(std::byte* host, std::byte* device);

  WorkQueue& queue_;
  std::byte* host_ = nullptr;
  std::byte* device_ = nullptr;
  // What was outgrown last: the op under way may have items there.
  std::byte* old_host_ = nullptr;
  std::byte* old_device_ = nullptr;
  uint64_t segment_bytes_ = 0;
  uint64_t generation_ = 0;  // segments begun so far; the current one is the last of them
  uint64_t used_bytes_ = 0;  // of the current segment
  std::array<WorkMark, kSegments> left_ = {};  // where each segment's use ended
  std::array<Kept, kUploadKinds> kept_ = {};
};

}  // namespace thermocline::kernels::cuda
