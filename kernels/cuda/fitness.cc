#include "kernels/cuda/fitness.h"

#include <string>

#include "base/str.h"

namespace thermocline::kernels::cuda {
namespace {

std::string VersionText(int version) { return Str(version / 1000, ".", version % 1000 / 10); }
std::string CapabilityText(int capability) { return Str(capability / 10, ".", capability % 10); }

}  // namespace

Status CheckVersions(const CudaVersions& versions, std::optional<int> ordinal) {
  if (versions.driver == 0) return Unavailable("no CUDA driver on this machine");
  if (versions.driver / 1000 >= versions.runtime / 1000) return OkStatus();
  return Unavailable(Str("the CUDA driver is older than the runtime of this program:",
                         ordinal ? Kv("device", Str("cuda:", *ordinal)) : "",
                         Kv("driver", VersionText(versions.driver)),
                         Kv("runtime", VersionText(versions.runtime))));
}

Status CheckCapability(const DeviceFacts& facts) {
  if (facts.compute_capability >= facts.least_capability) return OkStatus();
  return Unavailable(
      Str("this program has no kernels for a GPU that is so old: ", DeviceName(facts),
          Kv("capability", CapabilityText(facts.compute_capability)),
          Kv("least", CapabilityText(facts.least_capability))));
}

std::string DeviceName(const DeviceFacts& facts) {
  return Str("cuda:", facts.ordinal, " ", facts.name);
}

}  // namespace thermocline::kernels::cuda
