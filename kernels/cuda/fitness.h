// Whether a program can run on a card, with the driver that is there. Pure: asked on every host.
#pragma once

#include <optional>

#include "base/status.h"
#include "kernels/cuda/runtime.h"

namespace thermocline::kernels::cuda {

// As CUDA counts them: 12020 is 12.2.
struct CudaVersions {
  int driver = 0;  // 0: there is none
  int runtime = 0;
};

// kUnavailable names what is missing: the driver, or one of the runtime's major version or later,
// within which drivers run programs of later minor versions (CUDA Compatibility, "Minor version
// compatibility"). Of a GPU, if it is about one.
Status CheckVersions(const CudaVersions& versions, std::optional<int> ordinal);

// kUnavailable names the card, its compute capability and the least that the program has kernels
// for.
Status CheckCapability(const DeviceFacts& facts);

// "cuda:1 NVIDIA H200".
std::string DeviceName(const DeviceFacts& facts);

}  // namespace thermocline::kernels::cuda
