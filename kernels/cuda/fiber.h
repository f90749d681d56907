// A function on a stack of its own that runs in turns with its caller.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace thermocline::kernels::cuda::emulator {

// Owned by the emulator, used by one thread of the host. The sanitizers are told of each switch.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // What the next Resume begins; only when nothing is under way. `body` must outlive it.
  void Start(const std::function<void()>* body) { body_ = body; }
  bool is_running() const { return body_ != nullptr; }
  // Goes on with the body until it yields or returns.
  void Resume();
  // Within the body: back to who resumed it.
  void Yield();

 private:
  static void Enter(unsigned low, unsigned high);
  void RunBodies();
  void SwitchToBody();
  void SwitchToCaller();

  const std::function<void()>* body_ = nullptr;
  std::unique_ptr<std::byte[]> stack_;
  ucontext_t own_ = {};
  // How to come back: by contexts alone with sanitizers, else by places.
  [[maybe_unused]] ucontext_t caller_ = {};
  [[maybe_unused]] jmp_buf own_place_ = {}, caller_place_ = {};
  [[maybe_unused]] bool has_place_ = false;  // the body has begun
  // The sanitizers' handles.
  void* own_fake_stack_ = nullptr;
  void* caller_fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_stack_bytes_ = 0;
  void* thread_ = nullptr;
  void* caller_thread_ = nullptr;
};

}  // namespace thermocline::kernels::cuda::emulator
