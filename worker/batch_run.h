// One batch on its way through a stage's programs: its rows, the program it is at, its scratch.
#pragma once

#include <cstdint>
#include <span>

#include "base/clock.h"
#include "base/ids.h"
#include "base/tensor_view.h"
#include "kernels/operands.h"
#include "worker/kv_cache.h"
#include "worker/program.h"

namespace thermocline::worker {

// The rows of one batch. Borrowed for as long as it is under way.
struct BatchRows {
  std::span<const int32_t> tokens;     // one per row
  std::span<const int64_t> positions;  // one per row
  std::span<const kernels::SequenceRows> sequences;
};

// Written by the Executor that owns it, read by those of the units.
struct BatchRun {
  BatchRows rows;
  int64_t n_rows = 0;
  StepId step;
  int64_t first_row = 0;     // of the rows it has in the scratch
  float* scratch = nullptr;  // of these rows
  const Program* program = nullptr;
  bool in_spans = false;  // what the queue hands out are spans of the program, not ops
  KvCache* kv = nullptr;
  kernels::WorkMark fetched = 0;  // of a device apart: behind the copy of the run's result
  // Time that the device spent on ops of the program's FFN; counted only when `times_ffn`.
  bool times_ffn = false;
  Duration ffn_time{0};

  // What an OpRef's number stands for: an op, or those of a span.
  std::span<const LoweredOp> ops(int i) const {
    const auto at = static_cast<size_t>(i);
    const OpSpan span = in_spans ? program->spans().spans[at] : OpSpan{i, i + 1};
    return std::span(program->ops())
        .subspan(static_cast<size_t>(span.begin), static_cast<size_t>(span.size()));
  }
  const LoweredOp& op(int i) const { return ops(i).front(); }
  // A slot of the program; empty for kNoSlot. One of sums is twice as wide.
  TensorView View(int slot) const {
    if (slot == kNoSlot) return TensorView{};
    const Slot& place = program->slots()[static_cast<size_t>(slot)];
    return TensorView::F32(scratch + place.offset_cols * n_rows, n_rows, place.n_cols);
  }
  // A slot that holds sums. Slots begin at cache lines.
  kernels::SumsView Sums(int slot) const {
    if (slot == kNoSlot) return {};
    const TensorView view = View(slot);
    return {reinterpret_cast<double*>(view.data), view.n_rows, view.n_cols / 2};
  }
};

}  // namespace thermocline::worker
