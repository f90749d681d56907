// A management library as gpu_list loads it: three GPUs, of which the second does not answer.
#include <cstring>

#include "worker/probe/nvml_abi.h"

namespace {

using thermocline::worker::NvmlMemory;
using thermocline::worker::NvmlPciInfo;

// Which GPU a handle is of.
char gpus[3];
int n_started = 0;

bool Answers(void* device) { return n_started > 0 && device != &gpus[1]; }

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
  *count = 3;
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = &gpus[index];
  return 0;
}
int nvmlDeviceGetName(void* device, char* name, unsigned length) {
  if (!Answers(device)) return 15;
  std::strncpy(name, device == &gpus[0] ? "First GPU" : "Last GPU", length);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void*, NvmlMemory* memory) {
  *memory = {80'000, 70'000, 10'000};
  return 0;
}
int nvmlDeviceGetPciInfo_v3(void* device, NvmlPciInfo* pci) {
  std::strcpy(pci->bus_id, device == &gpus[0] ? "00000000:1B:00.0" : "00000000:43:00.0");
  return 0;
}
int nvmlDeviceGetMaxPcieLinkGeneration(void*, unsigned* generation) {
  *generation = 5;
  return 0;
}
// No nvmlDeviceGetMaxPcieLinkWidth: an old library.
int nvmlDeviceGetNvLinkState(void* device, unsigned link, int* is_up) {
  *is_up = link < 4 ? 1 : 0;
  return device == &gpus[0] ? 0 : 3;  // not supported
}

}  // extern "C"
