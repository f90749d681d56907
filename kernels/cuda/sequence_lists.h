// What kernels read of a batch's sequences: lists that the host builds for each batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/kernel_table.h"
#include "kernels/operands.h"

namespace thermocline::kernels::cuda {

// A list is valid until the next of its kind is built; memory is kept. Thread-compatible.
class SequenceLists {
 public:
  // The pages of all sequences, one after the other.
  std::span<const int32_t> Pages(std::span<const SequenceRows> sequences);
  // The sequences, where the list of their pages lies at `pages`.
  std::span<const SequenceSpan> Spans(std::span<const SequenceRows> sequences,
                                      const int32_t* pages);
  // By row of the batch its sequence, or -1.
  std::span<const int32_t> SequenceOfRow(std::span<const SequenceRows> sequences, int64_t n_rows);
  // What the blocks of attention take, with `group` query heads for a KV head.
  std::span<const RowTile> Tiles(std::span<const SequenceRows> sequences, int32_t group);

 private:
  std::vector<int32_t> pages_;
  std::vector<SequenceSpan> spans_;
  std::vector<int32_t> sequence_of_row_;
  std::vector<RowTile> tiles_;
};

}  // namespace thermocline::kernels::cuda
