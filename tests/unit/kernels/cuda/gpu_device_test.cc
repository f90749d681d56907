// The conformance suite on the GPU of this machine, where it has one.
#include <gtest/gtest.h>

#include "device_conformance.h"

namespace thermocline::kernels {
namespace {

INSTANTIATE_TEST_SUITE_P(Gpu, DeviceConformanceTest,
                         testing::Values(DeviceMaker{"First", [] { return MakeCudaDevice(0); }}),
                         MakerName);

}  // namespace
}  // namespace thermocline::kernels
