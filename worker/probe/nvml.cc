#include "worker/probe/nvml.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/cpu_list.h"
#include "base/str.h"

namespace thermocline::worker {
namespace {

using placement::GpuInfo;
using placement::GpuPath;

constexpr unsigned kNameBytes = 96;    // NVML_DEVICE_NAME_V2_BUFFER_SIZE
constexpr unsigned kDriverBytes = 80;  // NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE
constexpr unsigned kMaxNvlinks = 18;   // NVML_NVLINK_MAX_LINKS
// Beyond these the answer is no number of a GPU: PCI Express is at 7 and has 32 lanes at most,
// compute capabilities at 12.1.
constexpr int kMaxPcieGeneration = 15;
constexpr int kMaxPcieLanes = 32;
constexpr int kMaxCapability = 99;
// Of sets of CPUs and NUMA nodes: machines have up to some thousands.
constexpr size_t kBitsPerWord = 8 * sizeof(unsigned long);
constexpr size_t kCpuWords = 8192 / kBitsPerWord;
constexpr size_t kNodeWords = 1024 / kBitsPerWord;

int Within(int value, int high) { return value >= 0 && value <= high ? value : 0; }

int NumberOf(int (*get)(NvmlDevice, unsigned*), NvmlDevice device, int high) {
  unsigned value = 0;
  if (get == nullptr || get(device, &value) != 0 || value > static_cast<unsigned>(high)) return 0;
  return static_cast<int>(value);
}

// Each generation of GPUs came with one of NVLink (NVIDIA's architecture white papers; NCCL's
// graph/topo.h takes the rate of a link from the compute capability too).
int NvlinkGenerationOf(int capability) {
  const int major = capability / 10;
  return major >= 6 && major <= 10 ? major - 5 : 0;
}

std::vector<int> BitsOf(std::span<const unsigned long> words) {
  std::vector<int> bits;
  for (size_t i = 0; i < words.size() * kBitsPerWord; ++i) {
    if (words[i / kBitsPerWord] >> (i % kBitsPerWord) & 1) bits.push_back(static_cast<int>(i));
  }
  return bits;
}

}  // namespace

void Nvml::CloseLibrary::operator()(void* library) const { dlclose(library); }

Result<std::unique_ptr<Nvml>> Nvml::Load(const std::string& path) {
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

Nvml::~Nvml() {
  if (started_) (void)shutdown_();
}

template <typename Fn>
Status Nvml::Find(const char* name, Fn** function) {
  *function = reinterpret_cast<Fn*>(dlsym(library_.get(), name));
  return *function != nullptr ? OkStatus() : Unavailable(Str("NVML lacks ", name));
}

Status Nvml::FindAll() {
  TC_RETURN_IF_ERROR(Find("nvmlInit_v2", &init_));
  TC_RETURN_IF_ERROR(Find("nvmlShutdown", &shutdown_));
  TC_RETURN_IF_ERROR(Find("nvmlDeviceGetCount_v2", &count_));
  TC_RETURN_IF_ERROR(Find("nvmlDeviceGetHandleByIndex_v2", &handle_));
  TC_RETURN_IF_ERROR(Find("nvmlDeviceGetName", &name_));
  TC_RETURN_IF_ERROR(Find("nvmlDeviceGetMemoryInfo", &memory_));
  TC_RETURN_IF_ERROR(Find("nvmlDeviceGetPciInfo_v3", &pci_));
  (void)Find("nvmlSystemGetDriverVersion", &driver_);
  (void)Find("nvmlDeviceGetCudaComputeCapability", &capability_);
  (void)Find("nvmlDeviceGetMaxPcieLinkGeneration", &pcie_generation_);
  (void)Find("nvmlDeviceGetMaxPcieLinkWidth", &pcie_lanes_);
  (void)Find("nvmlDeviceGetNvLinkState", &nvlink_state_);
  (void)Find("nvmlDeviceGetNvLinkRemotePciInfo_v2", &nvlink_remote_);
  (void)Find("nvmlDeviceGetNvLinkRemoteDeviceType", &nvlink_remote_type_);
  (void)Find("nvmlDeviceGetTopologyCommonAncestor", &common_ancestor_);
  (void)Find("nvmlDeviceGetCpuAffinity", &cpu_affinity_);
  (void)Find("nvmlDeviceGetMemoryAffinity", &memory_affinity_);
  return OkStatus();
}

std::vector<NvmlDevice> Nvml::Devices() const {
  std::vector<NvmlDevice> devices;
  unsigned n = 0;
  if (count_(&n) != 0) return devices;
  for (unsigned i = 0; i < std::min<unsigned>(n, placement::kMaxGpus); ++i) {
    NvmlDevice device = nullptr;
    if (handle_(i, &device) == 0) devices.push_back(device);
  }
  return devices;
}

bool Nvml::Describe(NvmlDevice device, GpuInfo* gpu, PciPlace* place) const {
  char name[kNameBytes] = {};
  NvmlMemory memory{};
  NvmlPciInfo pci{};
  if (name_(device, name, kNameBytes) != 0 || memory_(device, &memory) != 0 ||
      pci_(device, &pci) != 0) {
    return false;
  }
  name[kNameBytes - 1] = pci.bus_id[sizeof pci.bus_id - 1] = '\0';
  *place = {pci.domain, pci.bus, pci.device};
  gpu->name = name;
  gpu->pci_bus_id = pci.bus_id;
  gpu->driver = Driver();
  gpu->memory_bytes = memory.total;
  gpu->free_bytes = std::min(memory.free, memory.total);
  int major = 0, minor = 0;
  if (capability_ != nullptr && capability_(device, &major, &minor) == 0) {
    gpu->compute_capability = 10 * Within(major, kMaxCapability) + Within(minor, 9);
  }
  gpu->pcie_generation = NumberOf(pcie_generation_, device, kMaxPcieGeneration);
  gpu->pcie_lanes = NumberOf(pcie_lanes_, device, kMaxPcieLanes);
  gpu->n_nvlinks = static_cast<int>(Nvlinks(device).size());
  if (gpu->n_nvlinks > 0) gpu->nvlink_generation = NvlinkGenerationOf(gpu->compute_capability);
  gpu->cpus = CpusOf(device);
  gpu->numa_node = NumaNodeOf(device);
  return true;
}

std::string Nvml::Driver() const {
  char text[kDriverBytes] = {};
  if (driver_ == nullptr || driver_(text, kDriverBytes) != 0) return "";
  text[kDriverBytes - 1] = '\0';
  return text;
}

std::string Nvml::CpusOf(NvmlDevice device) const {
  std::array<unsigned long, kCpuWords> words{};
  if (cpu_affinity_ == nullptr || cpu_affinity_(device, kCpuWords, words.data()) != 0) return "";
  return CpuListText(BitsOf(words));
}

int Nvml::NumaNodeOf(NvmlDevice device) const {
  std::array<unsigned long, kNodeWords> words{};
  if (memory_affinity_ == nullptr ||
      memory_affinity_(device, kNodeWords, words.data(), kNvmlScopeNode) != 0) {
    return -1;
  }
  const std::vector<int> nodes = BitsOf(words);
  return nodes.empty() ? -1 : nodes.front();
}

std::vector<NvlinkEnd> Nvml::Nvlinks(NvmlDevice device) const {
  std::vector<NvlinkEnd> ends;
  for (unsigned link = 0; nvlink_state_ != nullptr && link < kMaxNvlinks; ++link) {
    int is_up = 0;
    if (nvlink_state_(device, link, &is_up) != 0 || is_up == 0) continue;
    NvlinkEnd& end = ends.emplace_back();
    int type = -1;
    if (nvlink_remote_type_ != nullptr && nvlink_remote_type_(device, link, &type) == 0) {
      end.is_switch = type == kNvmlRemoteSwitch;
    }
    NvmlPciInfo pci{};
    if (nvlink_remote_ != nullptr && nvlink_remote_(device, link, &pci) == 0) {
      end.place = {pci.domain, pci.bus, pci.device};
    }
  }
  return ends;
}

GpuPath Nvml::PathBetween(NvmlDevice a, NvmlDevice b) const {
  int level = -1;
  if (common_ancestor_ == nullptr || common_ancestor_(a, b, &level) != 0) return GpuPath::kUnknown;
  switch (level) {
    case kNvmlInternal:
      return GpuPath::kSameBoard;
    case kNvmlSingle:
      return GpuPath::kPcieSwitch;
    case kNvmlMultiple:
      return GpuPath::kPcieSwitches;
    case kNvmlHostBridge:
      return GpuPath::kHostBridge;
    case kNvmlNode:
      return GpuPath::kNumaNode;
    case kNvmlSystem:
      return GpuPath::kSystem;
    default:
      return GpuPath::kUnknown;
  }
}

}  // namespace thermocline::worker
