#include "worker/device_rows.h"

#include "base/str.h"

namespace thermocline::worker {

DeviceRows RowsOn(const kernels::Device& device, model::NeuronRows wanted) {
  if (wanted == model::NeuronRows::kAsIs || device.has_fp8_rows()) return {wanted, ""};
  return {model::NeuronRows::kAsIs,
          Str("--gpu-rows ", model::NeuronRowsName(wanted), " has no effect: ", device.name(),
              " is no GPU, and holds rows of neurons as they are")};
}

}  // namespace thermocline::worker
