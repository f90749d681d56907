// The device that a bench runs on, by the name that its user gives.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "kernels/device.h"

namespace thermocline::bench {

// Those of --device ("cuda", "cuda:1", "cpu", "auto"), and "emulated": the CUDA backend on the
// host, which shows that a bench works where there is no GPU. Its times mean nothing.
Result<std::unique_ptr<kernels::Device>> OpenDevice(const std::string& name);

// How often to repeat what is to be repeated n times for a median: less on the emulator, where a
// step takes a thousand times as long.
int RepeatsOn(const std::string& name, int n);

}  // namespace thermocline::bench
