#include "comm/gpu.h"

#include <dlfcn.h>

#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/str.h"
#include "comm/backoff.h"
#include "comm/cuda_abi.h"

namespace thermocline::comm {
namespace {

constexpr int kCudaOutOfMemory = 2;

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

CudaAddress AddressOf(const void* memory) { return reinterpret_cast<CudaAddress>(memory); }

}  // namespace

// The driver's library and this process's use of a GPU.
struct Gpu::Library {
  std::unique_ptr<void, CloseLibrary> handle;
  CudaApi api{};
  int ordinal = 0;
  int device = 0;
  CudaContext context = nullptr;
  std::string uuid;
  std::string pci_bus_id;

  ~Library() {
    if (context != nullptr) (void)api.release_context(device);
  }

  template <typename Fn>
  Status Find(const char* name, Fn** function) {
    *function = reinterpret_cast<Fn*>(dlsym(handle.get(), name));
    return *function != nullptr ? OkStatus() : Unavailable(Str("the GPU driver lacks ", name));
  }

  // Names as the driver exports them: where a signature changed, the latest.
  Status FindAll() {
    TC_RETURN_IF_ERROR(Find("cuInit", &api.init));
    TC_RETURN_IF_ERROR(Find("cuGetErrorName", &api.error_name));
    TC_RETURN_IF_ERROR(Find("cuDeviceGetCount", &api.device_count));
    TC_RETURN_IF_ERROR(Find("cuDeviceGet", &api.device));
    // Of the card, also where a part of it is used as a GPU (MIG).
    TC_RETURN_IF_ERROR(Find("cuDeviceGetUuid", &api.device_uuid));
    TC_RETURN_IF_ERROR(Find("cuDeviceGetPCIBusId", &api.device_pci_bus_id));
    TC_RETURN_IF_ERROR(Find("cuDevicePrimaryCtxRetain", &api.retain_context));
    TC_RETURN_IF_ERROR(Find("cuDevicePrimaryCtxRelease_v2", &api.release_context));
    TC_RETURN_IF_ERROR(Find("cuCtxSetCurrent", &api.set_context));
    TC_RETURN_IF_ERROR(Find("cuMemAlloc_v2", &api.allocate));
    TC_RETURN_IF_ERROR(Find("cuMemFree_v2", &api.free));
    TC_RETURN_IF_ERROR(Find("cuMemHostAlloc", &api.allocate_pinned));
    TC_RETURN_IF_ERROR(Find("cuMemFreeHost", &api.free_pinned));
    TC_RETURN_IF_ERROR(Find("cuStreamCreate", &api.make_stream));
    TC_RETURN_IF_ERROR(Find("cuStreamDestroy_v2", &api.destroy_stream));
    TC_RETURN_IF_ERROR(Find("cuStreamWaitEvent", &api.stream_wait));
    TC_RETURN_IF_ERROR(Find("cuEventCreate", &api.make_event));
    TC_RETURN_IF_ERROR(Find("cuEventDestroy_v2", &api.destroy_event));
    TC_RETURN_IF_ERROR(Find("cuEventRecord", &api.record_event));
    TC_RETURN_IF_ERROR(Find("cuEventQuery", &api.query_event));
    return Find("cuMemcpyAsync", &api.copy);
  }

  // One place where codes of the driver become words. What is not there at the start is
  // kUnavailable; what fails later is lost, and no peer's fault.
  Status Check(int code, const char* what, StatusCode otherwise = StatusCode::kInternal) const {
    if (code == 0) return OkStatus();
    const char* name = nullptr;
    if (api.error_name(code, &name) != 0 || name == nullptr) name = "unknown error";
    const std::string message = Str(what, ": ", name, Kv("gpu", ordinal), Kv("code", code));
    return Status(code == kCudaOutOfMemory ? StatusCode::kResourceExhausted : otherwise, message);
  }

  Status OpenDevice() {
    constexpr StatusCode kMissing = StatusCode::kUnavailable;
    TC_RETURN_IF_ERROR(Check(api.init(0), "the GPU driver does not start", kMissing));
    int n_devices = 0;
    TC_RETURN_IF_ERROR(Check(api.device_count(&n_devices), "cannot count GPUs", kMissing));
    if (ordinal < 0 || ordinal >= n_devices) {
      return NotFound(Str("no such GPU:", Kv("gpu", ordinal), Kv("gpus", n_devices)));
    }
    TC_RETURN_IF_ERROR(Check(api.device(&device, ordinal), "cannot open the GPU", kMissing));
    std::array<unsigned char, kCudaUuidBytes> bytes{};
    TC_RETURN_IF_ERROR(
        Check(api.device_uuid(bytes.data(), device), "the GPU tells no UUID", kMissing));
    for (const unsigned char byte : bytes) {
      constexpr std::string_view kDigits = "0123456789abcdef";
      uuid += {kDigits[byte >> 4], kDigits[byte & 15]};
    }
    std::array<char, kCudaPciBusIdBytes> place{};
    TC_RETURN_IF_ERROR(Check(api.device_pci_bus_id(place.data(), place.size(), device),
                             "the GPU does not tell where it sits", kMissing));
    pci_bus_id.assign(place.data(), strnlen(place.data(), place.size()));
    return Check(api.retain_context(&context, device), "cannot make a context on the GPU",
                 kMissing);
  }
};

Gpu::Gpu() : library_(std::make_unique<Library>()) {}
Gpu::~Gpu() = default;

Result<std::unique_ptr<Gpu>> Gpu::Open(int ordinal, const std::string& library) {
  std::unique_ptr<Gpu> gpu(new Gpu);
  gpu->library_->ordinal = ordinal;
  gpu->library_->handle.reset(dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL));
  if (gpu->library_->handle == nullptr) {
    return Unavailable(Str("no GPU driver: ", dlerror(), ": install NVIDIA's driver"));
  }
  TC_RETURN_IF_ERROR(gpu->library_->FindAll());
  TC_RETURN_IF_ERROR(gpu->library_->OpenDevice());
  return gpu;
}

int Gpu::ordinal() const { return library_->ordinal; }
const std::string& Gpu::uuid() const { return library_->uuid; }
const std::string& Gpu::pci_bus_id() const { return library_->pci_bus_id; }

Status Gpu::Check(int code, const char* what) const { return library_->Check(code, what); }

Status Gpu::Use() const {
  return Check(library_->api.set_context(library_->context), "cannot use the GPU");
}

Result<Gpu::Memory> Gpu::Allocate(uint64_t n_bytes) const {
  TC_RETURN_IF_ERROR(Use());
  CudaAddress address = 0;
  TC_RETURN_IF_ERROR(Check(library_->api.allocate(&address, n_bytes), "no memory on the GPU"));
  return Memory(reinterpret_cast<void*>(address), {this, &Gpu::Free});
}

Result<Gpu::Memory> Gpu::AllocatePinned(uint64_t n_bytes) const {
  TC_RETURN_IF_ERROR(Use());
  void* memory = nullptr;
  TC_RETURN_IF_ERROR(Check(library_->api.allocate_pinned(&memory, n_bytes, 0), "no pinned memory"));
  return Memory(memory, {this, &Gpu::FreePinned});
}

Result<Gpu::Stream> Gpu::MakeStream() const {
  TC_RETURN_IF_ERROR(Use());
  CudaStream stream = nullptr;
  TC_RETURN_IF_ERROR(
      Check(library_->api.make_stream(&stream, kCudaStreamNonBlocking), "cannot make a stream"));
  return Stream(stream, {this, &Gpu::DestroyStream});
}

Result<Gpu::Event> Gpu::MakeEvent() const {
  TC_RETURN_IF_ERROR(Use());
  CudaEvent event = nullptr;
  TC_RETURN_IF_ERROR(
      Check(library_->api.make_event(&event, kCudaEventNoTiming), "cannot make an event"));
  return Event(event, {this, &Gpu::DestroyEvent});
}

Status Gpu::Copy(void* to, const void* from, uint64_t n_bytes, GpuStream stream) const {
  if (n_bytes == 0) return OkStatus();
  TC_RETURN_IF_ERROR(Use());
  return Check(library_->api.copy(AddressOf(to), AddressOf(from), n_bytes, stream), "cannot copy");
}

Status Gpu::Record(const Event& event, GpuStream stream) const {
  TC_RETURN_IF_ERROR(Use());
  return Check(library_->api.record_event(event.get(), stream), "cannot record an event");
}

Result<bool> Gpu::HasPassed(const Event& event) const {
  TC_RETURN_IF_ERROR(Use());
  const int code = library_->api.query_event(event.get());
  if (code == kCudaNotReady) return false;
  TC_RETURN_IF_ERROR(Check(code, "work on the GPU failed"));
  return true;
}

Status Gpu::Await(const Event& event, TimePoint deadline) const {
  Backoff backoff;
  while (true) {
    TC_ASSIGN_OR_RETURN(const bool passed, HasPassed(event));
    if (passed) return OkStatus();
    if (!backoff.Pause(deadline)) {
      return DeadlineExceeded(Str("the GPU is not done in time:", Kv("gpu", ordinal())));
    }
  }
}

Status Gpu::Await(const Event& event, GpuStream stream) const {
  TC_RETURN_IF_ERROR(Use());
  return Check(library_->api.stream_wait(stream, event.get(), 0), "cannot order streams");
}

void Gpu::Free(void* memory) const {
  if (Use().ok()) (void)library_->api.free(AddressOf(memory));
}
void Gpu::FreePinned(void* memory) const {
  if (Use().ok()) (void)library_->api.free_pinned(memory);
}
void Gpu::DestroyStream(void* stream) const {
  if (Use().ok()) (void)library_->api.destroy_stream(stream);
}
void Gpu::DestroyEvent(void* event) const {
  if (Use().ok()) (void)library_->api.destroy_event(event);
}

}  // namespace thermocline::comm
