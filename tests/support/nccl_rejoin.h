// A group of one that is given up and meets again, by NCCL or by what stands for it.
#pragma once

#include <functional>

#include "comm/gpu.h"
#include "comm/nccl_library.h"

namespace thermocline::testing {

// Called before work that is to be aborted is put on a stream, and when it has been, or could
// not be: lets a library that stands for NCCL keep it from ending.
using HoldsWorkFn = std::function<void(bool holds)>;

// So often: joins by a new id, adds, and is aborted with work that may be under way: a real library
// has often done it by then. It must say why from then on, its stream must come free, and the next
// group must add as the first did.
inline constexpr int kRejoins = 3;
void ExpectRejoinsAfterAborts(const comm::NcclLibrary& nccl, const comm::Gpu& gpu,
                              const HoldsWorkFn& holds_work);

}  // namespace thermocline::testing
