// Stands for kernels/cuda/cuda_runtime.cc in a program that the integration tests run: cards that
// an emulator pretends (kernels/cuda/emulator.h). As they are linked by themselves, its functions
// come before those of the library.
//
// TC_PRETENDED_GPUS            "2x96": two cards of 96 MiB; unset: none
// TC_PRETENDED_GPU_CAPABILITY  "61": their compute capability; unset: one with kernels
// TC_PRETENDED_GPU_FAULTS      a folder: a card fails, or hangs, with the first piece of its work
//                              at which the folder has a file "fails" or "hangs"
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/str.h"
#include "base/units.h"
#include "kernels/cuda/emulator.h"
#include "kernels/device.h"

namespace thermocline::kernels {
namespace {

struct Cards {
  int n = 0;
  uint64_t memory_bytes = 0;
};

std::string Setting(const char* variable) {
  const char* const text = std::getenv(variable);
  return text == nullptr ? "" : text;
}

Result<Cards> CardsHere() {
  const std::string text = Setting("TC_PRETENDED_GPUS");
  if (text.empty()) return Unavailable("no CUDA driver on this machine");
  const char* const end = text.data() + text.size();
  Cards cards;
  uint64_t n_mib = 0;
  const char* const x = std::from_chars(text.data(), end, cards.n).ptr;
  if (x == end || *x != 'x' || std::from_chars(x + 1, end, n_mib).ptr != end) {
    return InvalidArgument(Str("TC_PRETENDED_GPUS is no 2x96: ", text));
  }
  cards.memory_bytes = n_mib * kMiB;
  return cards;
}

cuda::Fate FateBy(const std::string& folder) {
  if (access((folder + "/fails").c_str(), F_OK) == 0) return cuda::Fate::kFails;
  if (access((folder + "/hangs").c_str(), F_OK) == 0) return cuda::Fate::kHangs;
  return cuda::Fate::kIsDone;
}

}  // namespace

Result<std::vector<std::string>> CudaDeviceIds() {
  TC_ASSIGN_OR_RETURN(const Cards cards, CardsHere());
  std::vector<std::string> ids;
  // Each program that a test starts has cards of its own, for itself and those that it starts,
  // which bear its mark (tests/integration/cluster.py).
  for (int i = 0; i < cards.n; ++i) ids.push_back(Str(i, "-", Setting("TC_TEST_MARK")));
  return ids;
}

Result<std::unique_ptr<Device>> MakeCudaDevice(int ordinal) {
  TC_ASSIGN_OR_RETURN(const Cards cards, CardsHere());
  if (ordinal < 0 || ordinal >= cards.n) {
    return Unavailable(Str("no such GPU:", Kv("device", ordinal), Kv("here", cards.n)));
  }
  cuda::EmulatorOptions options;
  options.ordinal = ordinal;
  options.memory_bytes = cards.memory_bytes;
  options.patience = Duration{0};
  const std::string capability = Setting("TC_PRETENDED_GPU_CAPABILITY");
  if (!capability.empty()) options.compute_capability = std::atoi(capability.c_str());
  const std::string faults = Setting("TC_PRETENDED_GPU_FAULTS");
  if (!faults.empty()) options.fate = [faults](uint64_t) { return FateBy(faults); };
  return cuda::MakeEmulatedDevice(options);
}

}  // namespace thermocline::kernels
