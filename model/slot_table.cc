#include "model/slot_table.h"

namespace thermocline::model {
namespace {

// Slots begin at cache lines of 64 bytes, whatever number of rows a batch has.
constexpr int64_t kSlotAlignCols = 16;

// Lives in one AssignSlots.
class SlotWalk {
 public:
  explicit SlotWalk(const Graph& graph)
      : graph_(graph),
        slot_of_(graph.values.size(), kNoSlot),
        last_reader_(graph.values.size(), -1) {}

  SlotTable Run() && {
    FindLastReaders();
    if (graph_.input != kNoValue) Assign(graph_.input);
    for (size_t i = 0; i < graph_.ops.size(); ++i) Pass(graph_.ops[i], static_cast<int>(i));
    table_.output = SlotOf(graph_.output);
    return std::move(table_);
  }

 private:
  void FindLastReaders() {
    for (size_t i = 0; i < graph_.ops.size(); ++i) {
      for (const ValueId input : graph_.ops[i].inputs) {
        if (input != kNoValue) last_reader_[static_cast<size_t>(input)] = static_cast<int>(i);
      }
    }
    last_reader_[static_cast<size_t>(graph_.output)] = static_cast<int>(graph_.ops.size());
  }

  void Pass(const Op& op, int index) {
    SlotTable::OpSlots& own = table_.ops.emplace_back();
    for (const ValueId input : op.inputs) own.inputs.push_back(SlotOf(input));
    own.output = PlaceOutput(op, index);
    for (const ValueId input : op.inputs) {
      if (input != kNoValue && last_reader_[static_cast<size_t>(input)] == index) Free(input);
    }
  }

  int PlaceOutput(const Op& op, int index) {
    if (op.outputs.empty()) return kNoSlot;
    const ValueId output = op.outputs[0];
    if (SlotOf(output) != kNoSlot) return SlotOf(output);
    const ValueId first = op.inputs.empty() ? kNoValue : op.inputs[0];
    if (op.kind == OpKind::kAdd && last_reader_[static_cast<size_t>(first)] == index) {
      slot_of_[static_cast<size_t>(output)] = SlotOf(first);
      slot_of_[static_cast<size_t>(first)] = kNoSlot;
      return SlotOf(output);
    }
    return Assign(output, op.kind == OpKind::kReceive);
  }

  int SlotOf(ValueId value) const {
    return value == kNoValue ? kNoSlot : slot_of_[static_cast<size_t>(value)];
  }

  int Assign(ValueId value, bool waits_least = false) {
    const Value& described = graph_.values[static_cast<size_t>(value)];
    // A list of neuron ids is preceded by its length; one list serves all tokens. Sums are F64.
    int64_t n_cols = described.n_cols;
    if (described.kind == ValueKind::kActiveIds) ++n_cols;
    if (described.kind == ValueKind::kSums) n_cols *= 2;
    int slot = TakeFree(n_cols, waits_least);
    if (slot == kNoSlot) {
      slot = static_cast<int>(table_.slots.size());
      table_.slots.push_back({table_.n_cols, n_cols});
      table_.n_cols += (n_cols + kSlotAlignCols - 1) / kSlotAlignCols * kSlotAlignCols;
    }
    slot_of_[static_cast<size_t>(value)] = slot;
    return slot;
  }

  // The slot freed last is likeliest in a cache; whoever writes the one freed first waits least for
  // its last readers. kNoSlot when none has this width.
  int TakeFree(int64_t n_cols, bool freed_first) {
    auto found = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (table_.slots[static_cast<size_t>(*it)].n_cols != n_cols) continue;
      found = it;
      if (freed_first) break;
    }
    if (found == free_.end()) return kNoSlot;
    const int slot = *found;
    free_.erase(found);
    return slot;
  }

  void Free(ValueId value) {
    int& slot = slot_of_[static_cast<size_t>(value)];
    if (slot == kNoSlot) return;  // its storage was taken over
    free_.push_back(slot);
    slot = kNoSlot;
  }

  const Graph& graph_;
  std::vector<int> slot_of_;      // by value
  std::vector<int> last_reader_;  // by value: index of the last op that reads it
  std::vector<int> free_;         // slots, in the order in which they became free
  SlotTable table_;
};

}  // namespace

SlotTable AssignSlots(const Graph& graph) { return SlotWalk(graph).Run(); }

}  // namespace thermocline::model
