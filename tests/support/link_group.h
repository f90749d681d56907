// A group in the host's memory, over links: what the groups of GPUs are compared with.
#pragma once

#include <memory>
#include <vector>

#include "comm/group.h"
#include "comm/link.h"

namespace thermocline::testing {

// A star around the lead. The lead gives one link per other member, in member order; every other
// member gives its link to the lead. The links outlive the group. Streams are not looked at, and an
// operation is done when its call returns. kInvalidArgument when the number of links does not fit
// `self`. Sums are added in member order, ((x0 + x1) + x2) and so on, in F32, and rounded once to
// F16.
Result<std::unique_ptr<comm::Group>> MakeLinkGroup(int self, int n_members,
                                                   std::vector<comm::Link*> links);

}  // namespace thermocline::testing
