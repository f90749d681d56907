#include "worker/probe/gpu_list.h"

#include <dlfcn.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "base/str.h"
#include "worker/probe/nvml_abi.h"

namespace thermocline::worker {
namespace {

constexpr unsigned kNameBytes = 96;   // NVML_DEVICE_NAME_V2_BUFFER_SIZE
constexpr unsigned kMaxNvlinks = 18;  // NVML_NVLINK_MAX_LINKS
// No machine has more; a wrong answer must not make a long list.
constexpr unsigned kMaxGpus = 64;

struct CloseLibrary {
  void operator()(void* library) const { dlclose(library); }
};

// Owns the loaded and started library. One thread.
class Nvml {
 public:
  static Result<std::unique_ptr<Nvml>> Load(const std::string& path) {
    std::unique_ptr<Nvml> nvml(new Nvml);
    nvml->library_.reset(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL));
    if (nvml->library_ == nullptr) return NotFound(Str("no NVML: ", dlerror()));
    TC_RETURN_IF_ERROR(nvml->FindAll());
    if (const int code = nvml->init_(); code != 0) {
      return Unavailable(Str("NVML does not start:", Kv("code", code)));
    }
    nvml->started_ = true;
    return nvml;
  }
  ~Nvml() {
    if (started_) (void)shutdown_();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  std::vector<GpuInfo> List() const {
    std::vector<GpuInfo> gpus;
    unsigned n = 0;
    if (count_(&n) != 0) return gpus;
    for (unsigned i = 0; i < std::min(n, kMaxGpus); ++i) {
      NvmlDevice device = nullptr;
      GpuInfo gpu;
      if (handle_(i, &device) == 0 && Describe(device, &gpu)) gpus.push_back(std::move(gpu));
    }
    return gpus;
  }

 private:
  Nvml() = default;

  Status FindAll() {
    TC_RETURN_IF_ERROR(Find("nvmlInit_v2", &init_));
    TC_RETURN_IF_ERROR(Find("nvmlShutdown", &shutdown_));
    TC_RETURN_IF_ERROR(Find("nvmlDeviceGetCount_v2", &count_));
    TC_RETURN_IF_ERROR(Find("nvmlDeviceGetHandleByIndex_v2", &handle_));
    TC_RETURN_IF_ERROR(Find("nvmlDeviceGetName", &name_));
    TC_RETURN_IF_ERROR(Find("nvmlDeviceGetMemoryInfo", &memory_));
    TC_RETURN_IF_ERROR(Find("nvmlDeviceGetPciInfo_v3", &pci_));
    // What follows may be missing: then it is not told.
    (void)Find("nvmlDeviceGetMaxPcieLinkGeneration", &pcie_generation_);
    (void)Find("nvmlDeviceGetMaxPcieLinkWidth", &pcie_lanes_);
    (void)Find("nvmlDeviceGetNvLinkState", &nvlink_state_);
    return OkStatus();
  }

  template <typename Fn>
  Status Find(const char* name, Fn** function) {
    *function = reinterpret_cast<Fn*>(dlsym(library_.get(), name));
    return *function != nullptr ? OkStatus() : Unavailable(Str("NVML lacks ", name));
  }

  bool Describe(NvmlDevice device, GpuInfo* gpu) const {
    char name[kNameBytes] = {};
    NvmlMemory memory{};
    NvmlPciInfo pci{};
    if (name_(device, name, kNameBytes) != 0 || memory_(device, &memory) != 0 ||
        pci_(device, &pci) != 0) {
      return false;
    }
    name[kNameBytes - 1] = pci.bus_id[sizeof pci.bus_id - 1] = '\0';
    gpu->name = name;
    gpu->pci_bus_id = pci.bus_id;
    gpu->memory_bytes = memory.total;
    gpu->free_bytes = memory.free;
    gpu->pcie_generation = NumberOf(pcie_generation_, device);
    gpu->pcie_lanes = NumberOf(pcie_lanes_, device);
    gpu->n_nvlinks = CountNvlinks(device);
    return true;
  }

  static int NumberOf(int (*get)(NvmlDevice, unsigned*), NvmlDevice device) {
    unsigned value = 0;
    return get != nullptr && get(device, &value) == 0 ? static_cast<int>(value) : 0;
  }

  int CountNvlinks(NvmlDevice device) const {
    int n = 0;
    for (unsigned link = 0; nvlink_state_ != nullptr && link < kMaxNvlinks; ++link) {
      int is_up = 0;
      if (nvlink_state_(device, link, &is_up) == 0 && is_up != 0) ++n;
    }
    return n;
  }

  std::unique_ptr<void, CloseLibrary> library_;
  bool started_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*count_)(unsigned*) = nullptr;
  int (*handle_)(unsigned, NvmlDevice*) = nullptr;
  int (*name_)(NvmlDevice, char*, unsigned) = nullptr;
  int (*memory_)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*pci_)(NvmlDevice, NvmlPciInfo*) = nullptr;
  int (*pcie_generation_)(NvmlDevice, unsigned*) = nullptr;
  int (*pcie_lanes_)(NvmlDevice, unsigned*) = nullptr;
  int (*nvlink_state_)(NvmlDevice, unsigned, int*) = nullptr;
};

}  // namespace

Result<std::vector<GpuInfo>> ListGpus(const std::string& library) {
  TC_ASSIGN_OR_RETURN(const std::unique_ptr<Nvml> nvml, Nvml::Load(library));
  return nvml->List();
}

}  // namespace thermocline::worker
