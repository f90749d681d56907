#include "base/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <system_error>

#include "base/str.h"
#include "base/time_slice.h"

namespace thermocline {
namespace {

// Looks at a variable before a thread sleeps on it: with a pause of 40-140 cycles between two
// looks, 20-60 us, longer than the gap between two ops of a step and shorter than a scheduler's
// time slice.
constexpr int kSpins = 1000;

void CpuRelax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

int AvailableCpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return CPU_COUNT(&set);
}

// For callers, whose thread is not ours: as often as they call, one request each.
void RequestShortSlicesOnce() {
  thread_local bool requested = false;
  if (requested) return;
  requested = true;
  RequestShortSlices();
}

Status PinTo(std::thread& thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(static_cast<size_t>(cpu), &set);
  if (pthread_setaffinity_np(thread.native_handle(), sizeof(set), &set) == 0) return OkStatus();
  return InvalidArgument(Str("cannot pin a thread to this CPU:", Kv("cpu", cpu)));
}

}  // namespace

Result<std::unique_ptr<ThreadPool>> ThreadPool::Create(const ThreadPoolOptions& options) {
  if (options.n_threads < 1 || options.n_threads > kMaxThreads) {
    return InvalidArgument(Str("number of threads out of range:",
                               Kv("n_threads", options.n_threads), Kv("max", kMaxThreads)));
  }
  // Spinning pays only while the awaited thread runs on another CPU.
  const int n_spins = options.n_threads <= AvailableCpus() ? kSpins : 0;
  std::unique_ptr<ThreadPool> pool(new ThreadPool(n_spins));
  TC_RETURN_IF_ERROR(pool->Start(options));
  return pool;
}

Status ThreadPool::Start(const ThreadPoolOptions& options) {
  threads_.reserve(static_cast<size_t>(options.n_threads - 1));
  for (int i = 1; i < options.n_threads; ++i) {
    try {
      threads_.emplace_back([this, i] { WorkerMain(i); });
    } catch (const std::system_error& error) {
      return ResourceExhausted(Str("cannot start a thread: ", error.what(), Kv("thread", i)));
    }
    constexpr size_t kNameBytes = 15;  // Linux's limit without the final zero
    const std::string name = Str(options.name, "/", i).substr(0, kNameBytes);
    (void)pthread_setname_np(threads_.back().native_handle(), name.c_str());
    if (options.cpus.empty()) continue;
    const size_t slot = static_cast<size_t>(i) % options.cpus.size();
    TC_RETURN_IF_ERROR(PinTo(threads_.back(), options.cpus[slot]));
  }
  return OkStatus();
}

ThreadPool::~ThreadPool() {
  stopping_.store(true, std::memory_order_relaxed);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::Run(const Loop& loop) {
  if (threads_.empty() || loop.n_chunks <= 1) {
    for (int64_t chunk = 0; chunk < loop.n_chunks; ++chunk) loop.call(loop.body, chunk, 0);
    return;
  }
  RequestShortSlicesOnce();
  loop_ = loop;
  next_chunk_.store(0, std::memory_order_relaxed);
  gate_.store(kOpen, std::memory_order_release);
  round_.fetch_add(1, std::memory_order_release);
  round_.notify_all();
  RunChunks(0);
  AwaitHelpers();
}

void ThreadPool::RunChunks(int thread) {
  while (true) {
    const int64_t chunk = next_chunk_.fetch_add(1, std::memory_order_relaxed);
    if (chunk >= loop_.n_chunks) return;
    loop_.call(loop_.body, chunk, thread);
  }
}

// Closes the gate, so that a thread that wakes late finds nothing to enter, and waits until those
// inside have left.
void ThreadPool::AwaitHelpers() {
  int inside = gate_.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  for (int spin = 0; inside != 0 && spin < n_spins_; ++spin) {
    CpuRelax();
    inside = gate_.load(std::memory_order_acquire);
  }
  while (inside != 0) {
    gate_.wait(inside, std::memory_order_acquire);
    inside = gate_.load(std::memory_order_acquire);
  }
}

void ThreadPool::WorkerMain(int thread) {
  RequestShortSlices();
  int seen = 0;
  while (true) {
    seen = AwaitRound(seen);
    if (stopping_.load(std::memory_order_relaxed)) return;
    JoinLoop(thread);
  }
}

// The number of the newest loop, once it differs from `seen`.
int ThreadPool::AwaitRound(int seen) const {
  int round = round_.load(std::memory_order_acquire);
  for (int spin = 0; round == seen && spin < n_spins_; ++spin) {
    CpuRelax();
    round = round_.load(std::memory_order_acquire);
  }
  while (round == seen) {
    round_.wait(seen, std::memory_order_acquire);
    round = round_.load(std::memory_order_acquire);
  }
  return round;
}

void ThreadPool::JoinLoop(int thread) {
  int gate = gate_.load(std::memory_order_acquire);
  while ((gate & kOpen) != 0) {
    if (!gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acquire)) continue;
    RunChunks(thread);
    // Only a caller that has closed the gate sleeps on it, and only the last one out wakes it.
    if (gate_.fetch_sub(1, std::memory_order_acq_rel) == 1) gate_.notify_one();
    return;
  }
}

}  // namespace thermocline
