// The CUDA backend of a build that has none.
#include "base/str.h"
#include "kernels/device.h"

namespace thermocline::kernels {

Result<std::unique_ptr<Device>> MakeCudaDevice(int ordinal) {
  return Unavailable(Str("built without CUDA:", Kv("device", ordinal)));
}

Result<std::vector<std::string>> CudaDeviceIds() { return Unavailable("built without CUDA"); }

}  // namespace thermocline::kernels
