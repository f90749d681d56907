// A management library as gpu_list loads it: four GPUs, of which the second does not answer and the
// last tells numbers that no GPU can have. It is of an old driver, which does not tell its version.
#include <cstdint>
#include <cstring>

#include "worker/probe/nvml_abi.h"

namespace {

using namespace thermocline::worker;

constexpr int kFailure = 15, kNotSupported = 3;
constexpr int kMute = 1, kLast = 2, kOdd = 3;

// Which GPU a handle is of.
char gpus[4];
int n_started = 0;

int IndexOf(void* device) { return static_cast<int>(static_cast<char*>(device) - gpus); }
bool Answers(void* device) { return n_started > 0 && IndexOf(device) != kMute; }

constexpr unsigned kBuses[] = {0x1b, 0x1c, 0x43, 0x44};

}  // namespace

extern "C" {

int nvmlInit_v2() {
  ++n_started;
  return 0;
}
int nvmlShutdown() {
  --n_started;
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 4;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = &gpus[index];
  return 0;
}
int nvmlDeviceGetName(void* device, char* name, unsigned length) {
  if (!Answers(device)) return kFailure;
  std::memset(name, 'x', length);  // the odd one's name has no end
  if (IndexOf(device) == kOdd) return 0;
  std::strncpy(name, IndexOf(device) == 0 ? "First GPU" : "Last GPU", length);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, NvmlMemory* memory) {
  *memory = {80'000, IndexOf(device) == kOdd ? 90'000u : 70'000u, 10'000};
  return 0;
}
int nvmlDeviceGetPciInfo_v3(void* device, NvmlPciInfo* pci) {
  const char* const ids[] = {"00000000:1B:00.0", "", "00000000:43:00.0", "00000000:44:00.0"};
  *pci = {};
  pci->bus = kBuses[IndexOf(device)];
  std::strcpy(pci->bus_id, ids[IndexOf(device)]);
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(void* device, int* major, int* minor) {
  *major = IndexOf(device) == kOdd ? -9 : 9;
  *minor = IndexOf(device) == kOdd ? 1 << 30 : 0;
  return 0;
}
int nvmlDeviceGetMaxPcieLinkGeneration(void* device, unsigned* generation) {
  *generation = IndexOf(device) == kOdd ? 4'000'000'000u : 5;
  return 0;
}
int nvmlDeviceGetMaxPcieLinkWidth(void* device, unsigned* lanes) {
  *lanes = IndexOf(device) == kOdd ? 33 : 16;
  return 0;
}
// Of the first GPU four lead to the last, and two to a switch; of the last four and one.
int nvmlDeviceGetNvLinkState(void* device, unsigned link, int* is_up) {
  *is_up = link < (IndexOf(device) == 0 ? 6u : 5u) ? 1 : 0;
  return IndexOf(device) == kOdd ? kNotSupported : 0;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(void*, unsigned link, int* type) {
  *type = link < 4 ? kNvmlRemoteGpu : kNvmlRemoteSwitch;
  return 0;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void* device, unsigned link, NvmlPciInfo* pci) {
  *pci = {};
  pci->bus = link >= 4 ? 0xe0 : kBuses[IndexOf(device) == 0 ? kLast : 0];
  return 0;
}
int nvmlDeviceGetTopologyCommonAncestor(void* a, void* b, int* level) {
  const bool is_odd = IndexOf(a) == kOdd || IndexOf(b) == kOdd;
  *level = !is_odd ? kNvmlSystem : IndexOf(a) + IndexOf(b) == kOdd ? kNvmlSingle : 77;
  return 0;
}
int nvmlDeviceGetCpuAffinity(void* device, unsigned n_words, unsigned long* words) {
  if (IndexOf(device) == kOdd) return kNotSupported;
  std::memset(words, 0, n_words * sizeof *words);
  words[0] = IndexOf(device) == 0 ? 0x0f : 0xf0;
  words[1] = IndexOf(device) == 0 ? 0x01 : 0x00;
  return 0;
}
int nvmlDeviceGetMemoryAffinity(void* device, unsigned, unsigned long* words, unsigned scope) {
  if (scope != kNvmlScopeNode || IndexOf(device) == kOdd) return kNotSupported;
  words[0] = IndexOf(device) == 0 ? 1 : 2;
  return 0;
}

}  // extern "C"
