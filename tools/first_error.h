// Collects the errors of a parallel loop.
#pragma once

#include <cstdint>
#include <utility>

#include "base/mutex.h"
#include "base/status.h"

namespace thermocline::tools {

// Keeps the error of the first chunk that has one, so that every run reports the same. Owned by the
// caller of the loop; thread-safe.
class FirstError {
 public:
  void Report(int64_t chunk, Status status) {
    const MutexLock lock(mutex_);
    if (!status_.ok() && chunk_ < chunk) return;
    chunk_ = chunk;
    status_ = std::move(status);
  }
  bool IsBefore(int64_t chunk) {
    const MutexLock lock(mutex_);
    return !status_.ok() && chunk_ < chunk;
  }
  Status status() const {
    const MutexLock lock(mutex_);
    return status_;
  }

 private:
  mutable Mutex mutex_;
  int64_t chunk_ GUARDED_BY(mutex_) = 0;
  Status status_ GUARDED_BY(mutex_);
};

}  // namespace thermocline::tools
