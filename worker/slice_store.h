// The model file as this worker sees it: the file itself where the host has it, else a sparse
// cached copy that holds only the ranges fetched from the coordinator.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "comm/mailbox.h"
#include "model/weights.h"

namespace thermocline::worker {

struct FetchOptions {
  std::string cache_dir;    // of this user; the file lies in <cache_dir>/<fingerprint>/
  std::string fingerprint;  // 32 hexadecimal digits
  uint64_t model_bytes = 0;
  Duration reply_timeout = std::chrono::seconds(30);
};

// Fetches ranges into a sparse file with the layout of the model and remembers, chunk by chunk,
// what is there and its checksum. A restart compares the checksums with the coordinator's and
// fetches what differs: a cache that is damaged or of another model is repaired, and nothing is
// fetched twice. Loading thread only.
class SliceCache {
 public:
  // Opens or creates the cache. kInvalidArgument for a fingerprint that is not one, kUnavailable
  // when the directory cannot be written.
  static Result<SliceCache> Open(const FetchOptions& options);
  ~SliceCache();
  SliceCache(SliceCache&&) noexcept;
  SliceCache& operator=(SliceCache&&) noexcept;

  // Called after every chunk and, while none comes, every 100 ms; an error ends the fetch.
  using ProgressFn = std::function<Status(uint64_t bytes_done, uint64_t bytes_total)>;
  // Makes `ranges` present and equal to the coordinator's. kDeadlineExceeded when the coordinator
  // does not answer, kDataLoss when bytes fail their checksum, and what `on_progress` returns.
  Status Fetch(const std::vector<model::ByteRange>& ranges, comm::Mailbox& bulk, const Clock& clock,
               const ProgressFn& on_progress);
  // Bytes that came over the wire in this process.
  uint64_t fetched_bytes() const;
  const std::string& path() const;

 private:
  struct State;
  explicit SliceCache(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace thermocline::worker
