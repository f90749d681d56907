// A fixed set of threads that share the chunks of one loop at a time.
//
//   pool.ParallelFor(n_chunks, [&](int64_t chunk, int thread) { ... });
//
// A call allocates nothing. Waiting threads spin for some microseconds, in which the next loop of a
// step usually comes, then sleep in the kernel, so an idle pool uses no CPU. A loop never waits for
// a thread that has not woken yet: the caller and whoever is awake take all its chunks. Threads of
// a pool, callers included, ask the system for short time slices (base/time_slice.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/status.h"

namespace thermocline {

struct ThreadPoolOptions {
  // Threads that run chunks, the caller among them: n_threads - 1 are started. At least 1.
  int n_threads = 1;
  // Thread i is called "<name>/i"; the system keeps 15 bytes of it.
  std::string name = "pool";
  // CPU of started thread i (1 .. n_threads - 1) is cpus[i % cpus.size()]; empty leaves placement
  // to the system. The calling thread is never moved.
  std::vector<int> cpus;
};

// Owns its threads and joins them. ParallelFor is for one calling thread at a time, not from inside
// a chunk.
class ThreadPool {
 public:
  // kInvalidArgument when n_threads is out of 1 .. kMaxThreads, or a CPU cannot be pinned to;
  // kResourceExhausted when the system gives no more threads.
  static Result<std::unique_ptr<ThreadPool>> Create(const ThreadPoolOptions& options);
  // A guard against a mistyped flag; no machine we know has more hardware threads.
  static constexpr int kMaxThreads = 4096;

  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const { return static_cast<int>(threads_.size()) + 1; }

  // Calls fn(chunk, thread) once for each chunk in 0 .. n_chunks - 1 and returns when all are done.
  // `thread` is in 0 .. n_threads - 1 (0 is the caller) and is not shared by two running chunks.
  // Which thread takes which chunk changes from run to run.
  template <typename Fn>
  void ParallelFor(int64_t n_chunks, Fn&& fn) {
    using Body = std::remove_reference_t<Fn>;
    Run({n_chunks, &fn, [](const void* body, int64_t chunk, int thread) {
           (*static_cast<Body*>(const_cast<void*>(body)))(chunk, thread);
         }});
  }

 private:
  struct Loop {
    int64_t n_chunks = 0;
    const void* body = nullptr;
    void (*call)(const void* body, int64_t chunk, int thread) = nullptr;
  };

  explicit ThreadPool(int n_spins) : n_spins_(n_spins) {}
  Status Start(const ThreadPoolOptions& options);
  void Run(const Loop& loop);
  void RunChunks(int thread);
  void WorkerMain(int thread);
  void JoinLoop(int thread);
  void AwaitHelpers();
  int AwaitRound(int seen) const;

  // Bit of gate_ that says that threads may enter the loop; the bits below count those inside.
  static constexpr int kOpen = 1 << 30;

  const int n_spins_;
  Loop loop_;  // written by the caller while the gate is closed and nobody is inside
  std::vector<std::thread> threads_;
  // Each on its own cache line: they are written at different times by different threads.
  alignas(64) std::atomic<int> round_{0};  // counts loops; a change wakes the threads
  alignas(64) std::atomic<int> gate_{0};
  alignas(64) std::atomic<int64_t> next_chunk_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace thermocline
