#include "model/slot_table.h"

#include <gtest/gtest.h>

namespace thermocline::model {
namespace {

Op OpOf(OpKind kind, std::vector<ValueId> inputs, std::vector<ValueId> outputs) {
  return {.kind = kind, .inputs = std::move(inputs), .outputs = std::move(outputs)};
}

// x, h = norm(x), g = h w, ids of g, y = rows of ids, x + y.
Graph FfnLike() {
  Graph graph;
  graph.values = {{"x", 32}, {"h", 32},  {"g", 100}, {"ids", 100, ValueKind::kActiveIds},
                  {"y", 32}, {"sum", 32}};
  graph.ops = {OpOf(OpKind::kNorm, {0}, {1}), OpOf(OpKind::kMatMul, {1}, {2}),
               OpOf(OpKind::kSelectActive, {2}, {3}), OpOf(OpKind::kAxpyRows, {2, 3}, {4}),
               OpOf(OpKind::kAdd, {0, 4}, {5})};
  graph.input = 0;
  graph.output = 5;
  return graph;
}

TEST(SlotTable, XStaysWhereItIsAndSlotsAreUsedAgain) {
  const SlotTable table = AssignSlots(FfnLike());
  EXPECT_EQ(table.output, 0);
  EXPECT_EQ(table.ops[0].inputs, std::vector<int>{0});
  // y takes the place of h, which nobody reads any more.
  EXPECT_EQ(table.ops[3].output, table.ops[0].output);
  EXPECT_EQ(table.slots.size(), 4u);
}

TEST(SlotTable, ListsHaveRoomForTheirLengthAndSlotsDoNotOverlap) {
  const SlotTable table = AssignSlots(FfnLike());
  const Slot& list = table.slots[static_cast<size_t>(table.ops[2].output)];
  EXPECT_EQ(list.n_cols, 101);
  int64_t end = 0;
  for (const Slot& slot : table.slots) {
    EXPECT_GE(slot.offset_cols, end);
    EXPECT_EQ(slot.offset_cols % 16, 0);
    end = slot.offset_cols + slot.n_cols;
  }
  EXPECT_GE(table.n_cols, end);
}

// The sums of two members, and their rounding in the place of h.
TEST(SlotTable, SumsTakeTwiceTheirColumnsAndAreAddedInPlace) {
  Graph graph = FfnLike();
  graph.values[4].kind = ValueKind::kSums;
  graph.values.push_back({"part", 32, ValueKind::kSums});
  graph.values.push_back({"out", 32});
  graph.ops.back() = OpOf(OpKind::kReceive, {}, {6});
  graph.ops.push_back(OpOf(OpKind::kAddSums, {4, 6}, {4}));
  graph.ops.push_back(OpOf(OpKind::kRoundSums, {4}, {7}));
  graph.ops.push_back(OpOf(OpKind::kAdd, {0, 7}, {5}));
  const SlotTable table = AssignSlots(graph);
  const int own = table.ops[3].output, part = table.ops[4].output;
  EXPECT_EQ(table.slots[static_cast<size_t>(own)].n_cols, 64);
  EXPECT_EQ(table.slots[static_cast<size_t>(part)].n_cols, 64);
  EXPECT_NE(own, part);
  EXPECT_EQ(table.ops[5].output, own);
  EXPECT_EQ(table.ops[6].output, table.ops[0].output);
  EXPECT_EQ(table.output, 0);
}

TEST(SlotTable, AnOpWithoutOutputHasNoSlot) {
  Graph graph = FfnLike();
  graph.ops.insert(graph.ops.begin(), OpOf(OpKind::kSend, {0}, {}));
  const SlotTable table = AssignSlots(graph);
  EXPECT_EQ(table.ops[0].output, kNoSlot);
  EXPECT_EQ(table.ops[0].inputs, std::vector<int>{0});
}

}  // namespace
}  // namespace thermocline::model
