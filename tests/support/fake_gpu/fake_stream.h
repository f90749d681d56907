// Work in order, done by a thread of its own: what a stream of a GPU is.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace thermocline::testing {

class FakeStream {
 public:
  FakeStream() : thread_([this] { Work(); }) {}
  // Does what it has been given first.
  ~FakeStream() {
    Add(nullptr);
    thread_.join();
  }

  void Add(std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    work_.push_back(std::move(work));
    changed_.notify_one();
  }

 private:
  void Work() {
    while (true) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !work_.empty(); });
      const auto work = std::move(work_.front());
      work_.pop_front();
      lock.unlock();
      if (work == nullptr) return;
      work();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> work_;
  std::thread thread_;  // last: it works with the others
};

}  // namespace thermocline::testing
