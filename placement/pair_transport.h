// Which transport joins which two workers.
#pragma once

#include <functional>
#include <utility>

#include "base/ids.h"
#include "placement/profile.h"

namespace thermocline::placement {

// The same for all pairs, or what a function says, of which it keeps a copy. As the function is,
// so is this: thread-safe or not.
class PairTransport {
 public:
  PairTransport(LinkKind all)  // NOLINT: one for all is one for every pair
      : of_([all](WorkerId, WorkerId) { return all; }) {}
  explicit PairTransport(std::function<LinkKind(WorkerId, WorkerId)> of) : of_(std::move(of)) {}

  LinkKind operator()(WorkerId a, WorkerId b) const { return of_(a, b); }

 private:
  std::function<LinkKind(WorkerId, WorkerId)> of_;
};

}  // namespace thermocline::placement
