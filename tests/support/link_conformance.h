// What every Link must do, written once for both ends: a case runs at end 0 and at end 1 at the
// same time, in two threads or in two processes.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "comm/link.h"

namespace thermocline::testing {

struct LinkEnd {
  int index = 0;  // 0 or 1
  comm::Link& link;
  // Returns when both ends have called it.
  std::function<void()> barrier;
  // Frames that a sender may have under way at least.
  int window = comm::kLinkWindowFrames;
};

struct LinkCase {
  std::string_view name;
  void (*run)(LinkEnd end);
};

const std::vector<LinkCase>& LinkConformanceCases();

}  // namespace thermocline::testing
