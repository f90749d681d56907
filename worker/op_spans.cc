#include "worker/op_spans.h"

#include <cstddef>

namespace thermocline::worker {
namespace {

bool IsSeam(const OpAccess& op) { return op.unit == Unit::kLink || op.section != Section::kNone; }

// By op, whether it waits for one that is a seam.
std::vector<bool> FindWaiting(std::span<const OpAccess> ops, const OpDag& dag) {
  std::vector<bool> waiting(ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    if (!IsSeam(ops[i])) continue;
    for (const uint16_t later : dag.dependents(static_cast<int>(i))) waiting[later] = true;
  }
  return waiting;
}

// What the ops of a span do together.
OpAccess AccessOf(std::span<const OpAccess> ops) {
  OpAccess all{.unit = ops.front().unit, .section = ops.front().section};
  for (const OpAccess& op : ops) {
    all.is_ordered = all.is_ordered || op.is_ordered;
    all.reads.insert(all.reads.end(), op.reads.begin(), op.reads.end());
    all.writes.insert(all.writes.end(), op.writes.begin(), op.writes.end());
  }
  return all;
}

}  // namespace

OpSpans CutIntoSpans(std::span<const OpAccess> ops, const OpDag& dag) {
  const std::vector<bool> waiting = FindWaiting(ops, dag);
  OpSpans cut;
  bool has_ordered = false;
  for (size_t i = 0; i < ops.size(); ++i) {
    const bool begins = i == 0 || waiting[i] || IsSeam(ops[i]) || IsSeam(ops[i - 1]) ||
                        (has_ordered && ops[i].is_ordered);
    const auto op = static_cast<int>(i);
    if (begins) cut.spans.push_back({op, op});
    cut.spans.back().end = op + 1;
    has_ordered = (has_ordered && !begins) || ops[i].is_ordered;
  }
  std::vector<OpAccess> accesses;
  for (const OpSpan& span : cut.spans) {
    accesses.push_back(
        AccessOf(ops.subspan(static_cast<size_t>(span.begin), static_cast<size_t>(span.size()))));
  }
  cut.dag = OpDag(accesses);
  return cut;
}

}  // namespace thermocline::worker
