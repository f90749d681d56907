// Which pages of a mapped file are in memory.
#pragma once

#include <cstddef>
#include <span>

#include "base/status.h"

namespace thermocline::worker {

// Reads every page of `bytes` (part of a mapping) into memory. kDataLoss when the system cannot
// read them, e.g. because the file shrank or the disk failed.
Status MakeResident(std::span<const std::byte> bytes);

}  // namespace thermocline::worker
