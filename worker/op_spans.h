// The ops of a program in spans: what a device can be given as one, since nothing in between waits
// for other members of the stage.
#pragma once

#include <span>
#include <vector>

#include "worker/op_dag.h"

namespace thermocline::worker {

// Ops [begin, end) of a program, in the order of its list.
struct OpSpan {
  int begin = 0;
  int end = 0;
  int size() const { return end - begin; }
};

struct OpSpans {
  std::vector<OpSpan> spans;  // all ops, in their order
  OpDag dag;                  // of the spans
};

// Each op of a link, or of a group's section, is a span of its own. A span of others begins after
// such an op, and with one that waits for such an op; it has one ordered op at most. `dag` is that
// of the ops.
OpSpans CutIntoSpans(std::span<const OpAccess> ops, const OpDag& dag);

}  // namespace thermocline::worker
