// The driver's side of the fake: its functions by their real names, over memory of this process.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <future>
#include <map>
#include <memory>
#include <vector>

#include "comm/cuda_abi.h"
#include "tests/support/fake_gpu/fake_gpu.h"
#include "tests/support/fake_gpu/fake_state.h"
#include "tests/support/fake_gpu/fake_stream.h"

namespace {

using namespace thermocline::comm;
using namespace thermocline::testing;

constexpr int kInvalidValue = 1, kInvalidContext = 201;
constexpr int kDevices = 4;

std::atomic<int> n_objects = 0;
thread_local CudaContext current = nullptr;

// Passes when the work that was on a stream at its last record has been done.
struct FakeEvent {
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t recorded = 0, passed = 0;
};
using EventHandle = std::shared_ptr<FakeEvent>;

FakeStream& StreamOf(void* stream) { return *static_cast<FakeStream*>(stream); }
EventHandle EventOf(void* event) { return *static_cast<EventHandle*>(event); }

void AwaitEvent(FakeEvent& event, uint64_t wanted) {
  std::unique_lock lock(event.mutex);
  event.changed.wait(lock, [&] { return event.passed >= wanted; });
}

int Allocate(void** memory, size_t n_bytes) {
  if (current == nullptr) return kInvalidContext;
  *memory = std::malloc(n_bytes);
  if (*memory == nullptr) return 2;
  ++n_objects;
  return 0;
}

// Of each GPU, by context.
std::mutex streams_mutex;
std::multimap<CudaContext, FakeStream*> streams;

// As the driver does before memory goes.
void AwaitAllStreams() {
  std::vector<std::future<void>> idle;
  {
    const std::lock_guard lock(streams_mutex);
    const auto [begin, end] = streams.equal_range(current);
    for (auto stream = begin; stream != end; ++stream) {
      auto promise = std::make_shared<std::promise<void>>();
      idle.push_back(promise->get_future());
      stream->second->Add([promise] { promise->set_value(); });
    }
  }
  for (std::future<void>& each : idle) each.wait();
}

// By the address that is seen: where it is, and its size.
std::mutex known_mutex;
std::map<uintptr_t, std::pair<std::byte*, uint64_t>> known;

int Free(void* memory) {
  AwaitAllStreams();
  std::free(memory);
  --n_objects;
  return 0;
}

}  // namespace

namespace thermocline::testing {

void* MemoryAt(const void* seen) {
  const auto address = reinterpret_cast<uintptr_t>(seen);
  const std::lock_guard lock(known_mutex);
  auto found = known.upper_bound(address);
  if (found == known.begin()) return const_cast<void*>(seen);
  --found;
  const auto& [memory, n_bytes] = found->second;
  const uintptr_t offset = address - found->first;
  return offset < n_bytes ? memory + offset : const_cast<void*>(seen);
}

}  // namespace thermocline::testing

extern "C" {

void tc_fake_gpu_know_memory(const void* seen, void* memory, uint64_t n_bytes) {
  const std::lock_guard lock(known_mutex);
  known[reinterpret_cast<uintptr_t>(seen)] = {static_cast<std::byte*>(memory), n_bytes};
}
void tc_fake_gpu_forget_memory(const void* seen) {
  const std::lock_guard lock(known_mutex);
  known.erase(reinterpret_cast<uintptr_t>(seen));
}

int tc_fake_gpu_live_objects() { return n_objects; }

int cuInit(unsigned) { return 0; }
int cuGetErrorName(int code, const char** name) {
  *name = code == 719 ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR_OF_THE_FAKE";
  return 0;
}
int cuDeviceGetCount(int* n) {
  *n = kDevices;
  return 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return 0;
}
int cuDeviceGetUuid(unsigned char* uuid, int device) {
  std::memset(uuid, 0x10 + device, kCudaUuidBytes);
  return 0;
}
int cuDeviceGetPCIBusId(char* id, int n_bytes, int device) {
  const char place[] = {'0', '0', '0', '0', ':', '0', static_cast<char>('a' + device),
                        ':', '0', '0', '.', '0', '\0'};
  if (n_bytes < static_cast<int>(sizeof(place))) return kInvalidValue;
  std::memcpy(id, place, sizeof(place));
  return 0;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  static char contexts[kDevices];
  *context = &contexts[device];
  ++n_objects;
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
  --n_objects;
  return 0;
}
int cuCtxSetCurrent(void* context) {
  current = context;
  return 0;
}
int cuMemAlloc_v2(uint64_t* address, size_t n_bytes) {
  void* memory = nullptr;
  const int code = Allocate(&memory, n_bytes);
  *address = reinterpret_cast<uint64_t>(memory);
  return code;
}
int cuMemFree_v2(uint64_t address) { return Free(reinterpret_cast<void*>(address)); }
int cuMemHostAlloc(void** memory, size_t n_bytes, unsigned) { return Allocate(memory, n_bytes); }
int cuMemFreeHost(void* memory) { return Free(memory); }
int cuStreamCreate(void** stream, unsigned) {
  if (current == nullptr) return kInvalidContext;
  auto* const made = new FakeStream;
  *stream = made;
  const std::lock_guard lock(streams_mutex);
  streams.emplace(current, made);
  ++n_objects;
  return 0;
}
int cuStreamDestroy_v2(void* stream) {
  {
    const std::lock_guard lock(streams_mutex);
    std::erase_if(streams, [&](const auto& entry) { return entry.second == stream; });
  }
  delete static_cast<FakeStream*>(stream);
  --n_objects;
  return 0;
}
int cuEventCreate(void** event, unsigned) {
  if (current == nullptr) return kInvalidContext;
  *event = new EventHandle(std::make_shared<FakeEvent>());
  ++n_objects;
  return 0;
}
int cuEventDestroy_v2(void* event) {
  delete static_cast<EventHandle*>(event);
  --n_objects;
  return 0;
}
int cuEventRecord(void* event, void* stream) {
  const EventHandle handle = EventOf(event);
  uint64_t number = 0;
  {
    const std::lock_guard lock(handle->mutex);
    number = ++handle->recorded;
  }
  StreamOf(stream).Add([handle, number] {
    const std::lock_guard lock(handle->mutex);
    handle->passed = std::max(handle->passed, number);
    handle->changed.notify_all();
  });
  return 0;
}
int cuEventQuery(void* event) {
  const EventHandle handle = EventOf(event);
  const std::lock_guard lock(handle->mutex);
  return handle->passed == handle->recorded ? 0 : kCudaNotReady;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned) {
  const EventHandle handle = EventOf(event);
  const std::lock_guard lock(handle->mutex);
  StreamOf(stream).Add([handle, number = handle->recorded] { AwaitEvent(*handle, number); });
  return 0;
}
int cuMemcpyAsync(uint64_t to, uint64_t from, size_t n_bytes, void* stream) {
  if (current == nullptr) return kInvalidContext;
  if (stream == nullptr) return kInvalidValue;  // the fake has no default stream
  if (const int error = CurrentFaults().driver_error; error != 0) return error;
  void* const target = MemoryAt(reinterpret_cast<const void*>(to));
  const void* const source = MemoryAt(reinterpret_cast<const void*>(from));
  StreamOf(stream).Add([=] { std::memcpy(target, source, n_bytes); });
  return 0;
}

}  // extern "C"
