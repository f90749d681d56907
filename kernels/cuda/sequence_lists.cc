#include "kernels/cuda/sequence_lists.h"

#include <algorithm>

namespace thermocline::kernels::cuda {

std::span<const int32_t> SequenceLists::Pages(std::span<const SequenceRows> sequences) {
  pages_.clear();
  for (const SequenceRows& rows : sequences) {
    pages_.insert(pages_.end(), rows.page_ids.begin(), rows.page_ids.end());
  }
  return pages_;
}

std::span<const SequenceSpan> SequenceLists::Spans(std::span<const SequenceRows> sequences,
                                                   const int32_t* pages) {
  spans_.clear();
  for (const SequenceRows& rows : sequences) {
    spans_.push_back({rows.first_row, rows.n_tokens, rows.first_position, pages});
    pages += rows.page_ids.size();
  }
  return spans_;
}

std::span<const int32_t> SequenceLists::SequenceOfRow(std::span<const SequenceRows> sequences,
                                                      int64_t n_rows) {
  sequence_of_row_.assign(static_cast<size_t>(n_rows), -1);
  for (size_t s = 0; s < sequences.size(); ++s) {
    std::fill_n(sequence_of_row_.begin() + sequences[s].first_row, sequences[s].n_tokens,
                static_cast<int32_t>(s));
  }
  return sequence_of_row_;
}

std::span<const RowTile> SequenceLists::Tiles(std::span<const SequenceRows> sequences,
                                              int32_t group) {
  tiles_.clear();
  for (size_t s = 0; s < sequences.size(); ++s) {
    const int32_t n_rows = sequences[s].n_tokens * group;
    for (int32_t first = 0; first < n_rows; first += kAttentionRows) {
      tiles_.push_back({static_cast<int32_t>(s), first, std::min(kAttentionRows, n_rows - first)});
    }
  }
  return tiles_;
}

}  // namespace thermocline::kernels::cuda
