// Runs a test body once on each instruction set that this machine has, not only on the best one.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>

#include "kernels/device.h"

namespace thermocline::kernels {

inline void OnEachInstructionSet(const std::function<void()>& body,
                                 const std::function<bool(std::string_view)>& is_wanted = nullptr) {
  for (const std::string& name : InstructionSets()) {
    if (is_wanted && !is_wanted(name)) continue;
    SCOPED_TRACE(name);
    ASSERT_TRUE(UseInstructionSet(name).ok());
    body();
    ASSERT_TRUE(UseInstructionSet("auto").ok());
  }
}

// Sets that round a product and its sum once.
inline bool HasFusedMultiplyAdd(std::string_view instruction_set) {
  return instruction_set != "sse4" && instruction_set != "scalar";
}

}  // namespace thermocline::kernels
