// The CUDA runtime: device memory, one stream, events.
#include <cuda_runtime.h>

#include <array>
#include <map>
#include <optional>
#include <utility>

#include "base/str.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/fitness.h"
#include "kernels/cuda/health.h"
#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/ranges.h"
#include "kernels/cuda/runtime.h"

namespace thermocline::kernels {
namespace cuda {
namespace {

// The one place where codes of CUDA become a Status.
Status ToStatus(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return OkStatus();
  return Unavailable(
      Str(what, " failed:", Kv("error", cudaGetErrorName(code)), ", ", cudaGetErrorString(code)));
}

// Thread-compatible, as the interface says. Every call sets the device first: callers may come from
// any thread.
class CudaRuntime final : public Runtime {
 public:
  explicit CudaRuntime(DeviceFacts facts) : facts_(std::move(facts)) {}
  ~CudaRuntime() override {
    if (health_.hangs()) return;
    Use();
    for (const auto& [number, graph] : graphs_) (void)cudaGraphExecDestroy(graph);
    for (cudaEvent_t event : events_) {
      if (event != nullptr) (void)cudaEventDestroy(event);
    }
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
  }
  Status Open() {
    TC_RETURN_IF_ERROR(ToStatus(cudaSetDevice(facts_.ordinal), "using the device"));
    TC_RETURN_IF_ERROR(
        ToStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"));
    for (cudaEvent_t& event : events_) {
      TC_RETURN_IF_ERROR(
          ToStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"));
    }
    return OkStatus();
  }

  const DeviceFacts& facts() const override { return facts_; }
  const KernelTable& kernels() const override { return gpu::Kernels(); }
  void* stream() override { return stream_; }

  std::byte* AllocateDevice(uint64_t n_bytes) override {
    Use();
    void* data = nullptr;
    return Allocated(cudaMalloc(&data, n_bytes), data);
  }
  void FreeDevice(std::byte* data) override {
    if (health_.hangs()) return;
    Use();
    (void)cudaFree(data);
  }
  std::byte* AllocatePinned(uint64_t n_bytes) override {
    Use();
    void* data = nullptr;
    return Allocated(cudaMallocHost(&data, n_bytes), data);
  }
  void FreePinned(std::byte* data) override {
    if (health_.hangs()) return;
    Use();
    (void)cudaStreamSynchronize(stream_);
    (void)cudaFreeHost(data);
  }
  void MemoryInfo(uint64_t* free_bytes, uint64_t* total_bytes) const override {
    Use();
    size_t free_now = 0, total = 0;
    (void)cudaMemGetInfo(&free_now, &total);
    *free_bytes = free_now;
    *total_bytes = total;
  }

  void EnqueueCopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    Use();
    Note(cudaMemcpyAsync(device, host, n_bytes, cudaMemcpyHostToDevice, stream_),
         "copying to the device");
  }
  void EnqueueCopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    if (health_.hangs()) return;
    Use();
    Note(cudaMemcpyAsync(host, device, n_bytes, cudaMemcpyDeviceToHost, stream_),
         "copying to the host");
  }
  void EnqueueCopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) override {
    Use();
    Note(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, stream_),
         "copying within the device");
  }
  void EnqueueZero(std::byte* device, uint64_t n_bytes) override {
    Use();
    Note(cudaMemsetAsync(device, 0, n_bytes, stream_), "clearing memory");
  }
  void RecordEvent(int slot) override {
    if (health_.hangs()) return;
    Use();
    Note(cudaEventRecord(events_[static_cast<size_t>(slot)], stream_), "recording an event");
  }
  bool IsEventDone(int slot) override {
    Use();
    const cudaError_t code = cudaEventQuery(events_[static_cast<size_t>(slot)]);
    if (code == cudaErrorNotReady) {
      (void)cudaGetLastError();  // an answer, no error
      return false;
    }
    Note(code, "the work");
    return true;  // after an error, too: nothing is to come
  }
  Status WaitForEvent(int slot) override {
    health_.Await([&] { return IsEventDone(slot); });
    return Error();
  }
  Status Error() override {
    if (health_.hangs()) return health_.error();
    Use();
    Note(cudaGetLastError(), "launching a kernel");
    return health_.error();
  }

  // Only this thread's calls are watched meanwhile: NCCL has threads of its own.
  Status BeginRecording() override {
    Use();
    Note(cudaGetLastError(), "launching a kernel");  // of what came before
    return ToStatus(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal),
                    "beginning to record");
  }
  Result<Recorded> EndRecording(int64_t max_launches) override {
    Use();
    cudaGraph_t graph = nullptr;
    const cudaError_t code = cudaStreamEndCapture(stream_, &graph);
    const auto recorded = code == cudaSuccess ? Instantiate(graph, max_launches)
                                              : Result<Recorded>(ToStatus(code, "recording"));
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    if (!recorded.ok()) (void)cudaGetLastError();  // of the recording; those of the work stay
    return recorded;
  }
  void EnqueueReplay(uint32_t number) override {
    Use();
    Note(cudaGraphLaunch(graphs_.at(number), stream_), "launching a graph");
  }
  void DropRecording(uint32_t number) override {
    const auto found = graphs_.find(number);
    if (health_.hangs() || found == graphs_.end()) return;
    Use();
    (void)cudaGraphExecDestroy(found->second);
    graphs_.erase(found);
  }

  void PushRange(const char* name) override {
    Use();
    PushProfilerRange(name);
  }
  void PopRange() override { PopProfilerRange(); }

 private:
  // That memory ran out the caller says, and it is no error of the work; anything else is one that
  // an allocation happened to meet.
  std::byte* Allocated(cudaError_t code, void* data) {
    if (code == cudaSuccess) return static_cast<std::byte*>(data);
    (void)cudaGetLastError();
    if (code != cudaErrorMemoryAllocation) Note(code, "the work");
    return nullptr;
  }
  // What it takes of the device is taken at once, so that it can be seen, and no replay waits for
  // it.
  Result<Recorded> Instantiate(cudaGraph_t graph, int64_t max_launches) {
    size_t n_nodes = 0;
    TC_RETURN_IF_ERROR(
        ToStatus(cudaGraphGetNodes(graph, nullptr, &n_nodes), "counting what was recorded"));
    const auto n_launches = static_cast<int64_t>(n_nodes);
    if (n_launches > max_launches) {
      return ResourceExhausted(Str("more launches than a graph may have:",
                                   Kv("launches", n_launches), Kv("max", max_launches)));
    }
    cudaGraphExec_t runnable = nullptr;
    const cudaError_t code = cudaGraphInstantiate(&runnable, graph, 0);
    if (code == cudaErrorMemoryAllocation) {
      return ResourceExhausted(Str("no memory for a graph:", Kv("launches", n_launches)));
    }
    TC_RETURN_IF_ERROR(ToStatus(code, "making a graph"));
    const Status uploaded = ToStatus(cudaGraphUpload(runnable, stream_), "uploading a graph");
    if (!uploaded.ok()) {
      (void)cudaGraphExecDestroy(runnable);
      return uploaded;
    }
    graphs_[++last_graph_] = runnable;
    return Recorded{last_graph_, n_launches};
  }
  void Use() const { (void)cudaSetDevice(facts_.ordinal); }
  void Note(cudaError_t code, const char* what) {
    if (code != cudaSuccess) health_.Note(ToStatus(code, what));
  }

  const DeviceFacts facts_;
  cudaStream_t stream_ = nullptr;
  std::array<cudaEvent_t, kEvents> events_ = {};
  std::map<uint32_t, cudaGraphExec_t> graphs_;  // by number
  uint32_t last_graph_ = 0;
  Health health_;
};

CudaVersions VersionsHere() {
  CudaVersions versions;
  (void)cudaRuntimeGetVersion(&versions.runtime);
  if (cudaDriverGetVersion(&versions.driver) != cudaSuccess) versions.driver = 0;
  return versions;
}

Result<int> CountDevices() {
  int n_devices = 0;
  const cudaError_t code = cudaGetDeviceCount(&n_devices);
  if (code == cudaErrorNoDevice) return 0;
  TC_RETURN_IF_ERROR(ToStatus(code, "looking for GPUs"));
  return n_devices;
}

Status CheckOrdinal(int ordinal) {
  TC_ASSIGN_OR_RETURN(const int n_devices, CountDevices());
  if (ordinal >= 0 && ordinal < n_devices) return OkStatus();
  return Unavailable(Str("no such GPU:", Kv("device", ordinal), Kv("here", n_devices)));
}

Result<DeviceFacts> ReadFacts(int ordinal) {
  cudaDeviceProp properties = {};
  TC_RETURN_IF_ERROR(
      ToStatus(cudaGetDeviceProperties(&properties, ordinal), "reading a device's properties"));
  return DeviceFacts{.name = properties.name,
                     .ordinal = ordinal,
                     .n_multiprocessors = properties.multiProcessorCount,
                     .compute_capability = properties.major * 10 + properties.minor,
                     .least_capability = TC_LEAST_CUDA_ARCHITECTURE};
}

// "GPU-" and the bytes in hexadecimal.
std::string IdText(const cudaUUID_t& uuid) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text = "GPU-";
  for (const char byte : uuid.bytes) {
    text += kDigits[static_cast<unsigned char>(byte) >> 4];
    text += kDigits[static_cast<unsigned char>(byte) & 15];
  }
  return text;
}

// Whether kernels run at all: the program may have none for this card, or none that its driver
// can translate.
Status CheckRuns(Device& device) {
  constexpr uint64_t kBytes = 4 * sizeof(float);
  TC_ASSIGN_OR_RETURN(const Buffer memory, device.Allocate(kBytes));
  const TensorView x = TensorView::F32(reinterpret_cast<float*>(memory.data()), 1, 4);
  device.ops().Add(x, x, x);
  return device.Synchronize();
}

}  // namespace
}  // namespace cuda

Result<std::vector<std::string>> CudaDeviceIds() {
  TC_RETURN_IF_ERROR(cuda::CheckVersions(cuda::VersionsHere(), std::nullopt));
  TC_ASSIGN_OR_RETURN(const int n_devices, cuda::CountDevices());
  std::vector<std::string> ids;
  for (int ordinal = 0; ordinal < n_devices; ++ordinal) {
    cudaDeviceProp properties = {};
    TC_RETURN_IF_ERROR(cuda::ToStatus(cudaGetDeviceProperties(&properties, ordinal),
                                      "reading a device's properties"));
    ids.push_back(cuda::IdText(properties.uuid));
  }
  return ids;
}

Result<std::unique_ptr<Device>> MakeCudaDevice(int ordinal) {
  TC_RETURN_IF_ERROR(cuda::CheckVersions(cuda::VersionsHere(), ordinal));
  TC_RETURN_IF_ERROR(cuda::CheckOrdinal(ordinal));
  TC_ASSIGN_OR_RETURN(cuda::DeviceFacts facts, cuda::ReadFacts(ordinal));
  auto runtime = std::make_unique<cuda::CudaRuntime>(std::move(facts));
  TC_RETURN_IF_ERROR(runtime->Open());
  TC_ASSIGN_OR_RETURN(auto device, cuda::MakeDevice(std::move(runtime)));
  TC_RETURN_IF_ERROR(cuda::CheckRuns(*device));
  return device;
}

}  // namespace thermocline::kernels
