// A mutex that clang's thread-safety analysis understands, and its scoped lock.
//
//   mutable Mutex mutex_;
//   int n_ GUARDED_BY(mutex_);
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define TC_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define TC_THREAD_ANNOTATION(x)
#endif

#define GUARDED_BY(mutex) TC_THREAD_ANNOTATION(guarded_by(mutex))
#define REQUIRES(mutex) TC_THREAD_ANNOTATION(requires_capability(mutex))

namespace thermocline {

class TC_THREAD_ANNOTATION(capability("mutex")) Mutex {
 public:
  void lock() TC_THREAD_ANNOTATION(acquire_capability()) { mutex_.lock(); }
  void unlock() TC_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class TC_THREAD_ANNOTATION(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TC_THREAD_ANNOTATION(acquire_capability(mutex)) : mutex_(mutex) {
    mutex_.lock();
  }
  ~MutexLock() TC_THREAD_ANNOTATION(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits on a Mutex that the caller holds; write the condition as a loop so the analysis sees it.
using CondVar = std::condition_variable_any;

}  // namespace thermocline
