// A bounded queue between threads with a written answer to "full": TryPush refuses, Push waits.
#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <utility>

#include "base/mutex.h"

namespace thermocline {

// Thread-safe. After Close(), pushes are refused and pops drain what is left, then return nullopt.
template <typename T>
class BoundedQueue {
 public:
  explicit BoundedQueue(size_t capacity) : capacity_(capacity) {}

  // False when full or closed; the item is then lost, so callers that must keep it use Push.
  bool TryPush(T item) { return Push(std::move(item), std::chrono::nanoseconds(0)); }

  // Waits for room until `timeout`; false when there was none or the queue is closed.
  bool Push(T item, std::chrono::nanoseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    const MutexLock lock(mutex_);
    while (!closed_ && items_.size() >= capacity_) {
      if (not_full_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
    }
    if (closed_ || items_.size() >= capacity_) return false;
    items_.push_back(std::move(item));
    not_empty_.notify_one();
    return true;
  }

  // Waits for an item until `timeout`; nullopt on timeout, or when closed and empty.
  std::optional<T> Pop(std::chrono::nanoseconds timeout) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    const MutexLock lock(mutex_);
    while (!closed_ && items_.empty()) {
      if (not_empty_.wait_until(mutex_, deadline) == std::cv_status::timeout) break;
    }
    if (items_.empty()) return std::nullopt;
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    not_full_.notify_one();
    return item;
  }

  void Close() {
    const MutexLock lock(mutex_);
    closed_ = true;
    not_empty_.notify_all();
    not_full_.notify_all();
  }

  bool closed() const {
    const MutexLock lock(mutex_);
    return closed_;
  }
  size_t size() const {
    const MutexLock lock(mutex_);
    return items_.size();
  }

 private:
  const size_t capacity_;
  mutable Mutex mutex_;
  CondVar not_empty_;
  CondVar not_full_;
  std::deque<T> items_ GUARDED_BY(mutex_);
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace thermocline
