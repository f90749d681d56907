// The GPUs of a host and how they reach each other, in words.
#pragma once

#include <span>
#include <string>

#include "placement/profile.h"

namespace thermocline::tools {

// A line per GPU and, where there are several, a table of what lies between each two; "" for none.
std::string GpuText(std::span<const placement::GpuInfo> gpus);

}  // namespace thermocline::tools
