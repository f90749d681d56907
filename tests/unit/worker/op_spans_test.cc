// Random programs cut into spans: nothing in a span waits for what comes between its ops, and the
// order of the ops is kept.
#include "worker/op_spans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace thermocline::worker {
namespace {

std::vector<OpAccess> RandomOps(uint32_t seed) {
  std::mt19937 random(seed);
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  std::vector<OpAccess> ops(static_cast<size_t>(1 + draw(24)));
  for (OpAccess& op : ops) {
    op.unit = draw(4) == 0 ? Unit::kLink : Unit::kDevice;
    op.is_ordered = draw(8) == 0;
    if (op.unit == Unit::kDevice && draw(12) == 0) op.section = Section::kBegin;
    for (int n = draw(3); n > 0; --n) op.reads.push_back(draw(8));
    for (int n = draw(3); n > 0; --n) op.writes.push_back(draw(8));
  }
  return ops;
}

bool IsSeam(const OpAccess& op) { return op.unit == Unit::kLink || op.section != Section::kNone; }

std::vector<int> SpanOfOps(const OpSpans& cut) {
  std::vector<int> span_of;
  for (size_t s = 0; s < cut.spans.size(); ++s) {
    EXPECT_EQ(cut.spans[s].begin, static_cast<int>(span_of.size()));
    EXPECT_GT(cut.spans[s].size(), 0);
    span_of.resize(static_cast<size_t>(cut.spans[s].end), static_cast<int>(s));
  }
  return span_of;
}

TEST(OpSpans, KeepTheOrderOfTheirOps) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    const std::vector<OpAccess> ops = RandomOps(seed);
    const OpDag dag(ops);
    const OpSpans cut = CutIntoSpans(ops, dag);
    const std::vector<int> span_of = SpanOfOps(cut);
    ASSERT_EQ(span_of.size(), ops.size()) << seed;
    ASSERT_EQ(static_cast<size_t>(cut.dag.size()), cut.spans.size()) << seed;
    for (int op = 0; op < dag.size(); ++op) {
      const int span = span_of[static_cast<size_t>(op)];
      const OpAccess& access = ops[static_cast<size_t>(op)];
      EXPECT_EQ(cut.dag.unit(span), access.unit) << seed;
      EXPECT_TRUE(!access.is_ordered || cut.dag.ordered().Has(span)) << seed;
      EXPECT_TRUE(!IsSeam(access) || cut.spans[static_cast<size_t>(span)].size() == 1) << seed;
      EXPECT_EQ(cut.dag.section_begins().Has(span), access.section == Section::kBegin) << seed;
      for (const uint16_t later : dag.dependents(op)) {
        const int after = span_of[later];
        const auto dependents = cut.dag.dependents(span);
        const bool is_kept =
            after == span || std::ranges::find(dependents, after) != dependents.end();
        EXPECT_TRUE(is_kept) << "seed " << seed << ", op " << op << " before " << later;
        const int begin = cut.spans[static_cast<size_t>(after)].begin;
        EXPECT_TRUE(!IsSeam(access) || begin == later) << seed;
      }
    }
  }
}

TEST(OpSpans, HaveOneOrderedOpAtMost) {
  for (uint32_t seed = 0; seed < 500; ++seed) {
    const std::vector<OpAccess> ops = RandomOps(seed);
    for (const OpSpan& span : CutIntoSpans(ops, OpDag(ops)).spans) {
      const auto begin = ops.begin() + span.begin, end = ops.begin() + span.end;
      EXPECT_LE(std::count_if(begin, end, [](const OpAccess& op) { return op.is_ordered; }), 1);
    }
  }
}

TEST(OpSpans, OfAChainAreOne) {
  std::vector<OpAccess> ops(5);
  for (size_t i = 1; i < ops.size(); ++i) {
    ops[i - 1].writes = {static_cast<int>(i)};
    ops[i].reads = {static_cast<int>(i)};
  }
  EXPECT_EQ(CutIntoSpans(ops, OpDag(ops)).spans.size(), 1u);
  ops[2].unit = Unit::kLink;
  EXPECT_EQ(CutIntoSpans(ops, OpDag(ops)).spans.size(), 3u);
}

}  // namespace
}  // namespace thermocline::worker
