// The checked longjmp of some systems allows no jump to another stack.
#undef _FORTIFY_SOURCE
#include "kernels/cuda/fiber.h"

#include <cstdint>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TC_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define TC_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define TC_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define TC_TSAN 1
#endif

#if defined(TC_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(TC_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

namespace thermocline::kernels::cuda::emulator {
namespace {

// Kernels keep some KiB on their stack; sanitizers several times that.
constexpr size_t kStackBytes = 128 * 1024;

// What the sanitizers want to know around a switch of stacks; nothing without them.
#if defined(TC_ASAN)
void BeforeSwitch(void** fake_stack, const void* to, size_t n_bytes) {
  __sanitizer_start_switch_fiber(fake_stack, to, n_bytes);
}
void AfterSwitch(void* fake_stack, const void** from, size_t* n_bytes) {
  __sanitizer_finish_switch_fiber(fake_stack, from, n_bytes);
}
#else
void BeforeSwitch(void**, const void*, size_t) {}
void AfterSwitch(void*, const void**, size_t*) {}
#endif

#if defined(TC_TSAN)
void* MakeThread() { return __tsan_create_fiber(0); }
void DestroyThread(void* thread) { __tsan_destroy_fiber(thread); }
void* CurrentThread() { return __tsan_get_current_fiber(); }
void SwitchThread(void* thread) { __tsan_switch_to_fiber(thread, 0); }
#else
void* MakeThread() { return nullptr; }
void DestroyThread(void*) {}
void* CurrentThread() { return nullptr; }
void SwitchThread(void*) {}
#endif

}  // namespace

Fiber::Fiber() : stack_(new std::byte[kStackBytes]), thread_(MakeThread()) {
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_.get();
  own_.uc_stack.ss_size = kStackBytes;
  own_.uc_link = nullptr;
  // makecontext passes ints: the pointer goes in two of them.
  const auto self = reinterpret_cast<uintptr_t>(this);
  makecontext(&own_, reinterpret_cast<void (*)()>(&Fiber::Enter), 2,
              static_cast<unsigned>(self & 0xffffffffu), static_cast<unsigned>(self >> 32));
}

Fiber::~Fiber() { DestroyThread(thread_); }

void Fiber::Enter(unsigned low, unsigned high) {
  auto* const self = reinterpret_cast<Fiber*>(static_cast<uintptr_t>(high) << 32 | low);
  AfterSwitch(nullptr, &self->caller_stack_, &self->caller_stack_bytes_);
  self->RunBodies();
}

// One body after the other: a stack is made ready once.
void Fiber::RunBodies() {
  for (;;) {
    (*body_)();
    body_ = nullptr;
    Yield();
  }
}

#if defined(TC_ASAN) || defined(TC_TSAN)
void Fiber::SwitchToBody() { swapcontext(&caller_, &own_); }
void Fiber::SwitchToCaller() { swapcontext(&own_, &caller_); }
#else
// A context has a mask of signals, for which each switch would ask the system: nine tenths of the
// emulator's time. Only the first switch needs one, to get to the new stack.
void Fiber::SwitchToBody() {
  if (_setjmp(caller_place_) != 0) return;
  if (has_place_) _longjmp(own_place_, 1);
  has_place_ = true;
  setcontext(&own_);
}
void Fiber::SwitchToCaller() {
  if (_setjmp(own_place_) == 0) _longjmp(caller_place_, 1);
}
#endif

void Fiber::Resume() {
  caller_thread_ = CurrentThread();
  BeforeSwitch(&caller_fake_stack_, stack_.get(), kStackBytes);
  SwitchThread(thread_);
  SwitchToBody();
  AfterSwitch(caller_fake_stack_, nullptr, nullptr);
}

void Fiber::Yield() {
  BeforeSwitch(&own_fake_stack_, caller_stack_, caller_stack_bytes_);
  SwitchThread(caller_thread_);
  SwitchToCaller();
  AfterSwitch(own_fake_stack_, &caller_stack_, &caller_stack_bytes_);
}

}  // namespace thermocline::kernels::cuda::emulator
