// A group of one that is given up and meets again, by NCCL or by what stands for it.
#pragma once

#include <functional>

#include "comm/gpu.h"
#include "comm/nccl_library.h"

namespace thermocline::testing {

// Called before work that is to be aborted is put on a stream, and when it has been: lets a library
// that stands for NCCL keep it from ending.
using HoldsWorkFn = std::function<void(bool holds)>;

// Several times: joins by a new id, adds, and is aborted with work under way. It must say why from
// then on, its stream must come free, and the next group must add as the first did.
void ExpectRejoinsAfterAborts(const comm::NcclLibrary& nccl, const comm::Gpu& gpu,
                              const HoldsWorkFn& holds_work);

}  // namespace thermocline::testing
