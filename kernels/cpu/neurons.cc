// The neurons of a list: first the gates of all, then up of those whose gate is not 0.
//
// A pass over one matrix goes chunk by chunk: the rows of a chunk stay in an L2 cache while one
// token after the other meets those that it needs, and the rows of the next chunk are fetched.
#include <algorithm>
#include <atomic>
#include <bit>
#include <span>

#include "base/units.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/row_dot.h"
#include "kernels/cpu/row_group.h"

namespace thermocline::kernels::cpu {
namespace {

// Tokens are bits of a word. 64 rows of some KiB are a part of an L2 cache; the rows of one token
// are read once, so that a chunk only sets how far ahead is fetched.
constexpr int64_t kTokens = 64;
constexpr int64_t kChunk = 64;
constexpr int64_t kChunkOfOneToken = 8;
// Rows of one token are fetched into an L1 cache where a chunk of them is half of it at most.
constexpr int64_t kL1ChunkBytes = 24 * 1024;
static_assert(kChunk <= 64 && kChunk <= kScratchFloats);
static_assert(kChunkOfOneToken <= RowGroup::kAhead);

float Activated(Activation kind, float x) {
  switch (kind) {
    case Activation::kSilu:
      return ActivateOne(kind, x);
    case Activation::kRelu:
      return x > 0 ? x : 0.0f;
    case Activation::kReluSquared:
      return x > 0 ? x * x : 0.0f;
  }
  return 0.0f;
}

// One matrix of the neurons with the tokens as its rows want them.
struct Matrix {
  TensorView w;
  const float* bias = nullptr;
  TokenRows x;
  GroupDot dot = nullptr;

  Matrix(const TensorView& weight, const TensorView& bias_view, const TokenRows& tokens)
      : w(weight), x(tokens) {
    if (!bias_view.empty()) bias = bias_view.f32_row(0);
    if (!w.empty()) dot = GroupDotOf(w);
  }
};

// a[t, i] = finish(a[t, i], matrix_i . x[t]) for the ids and the tokens that need them, 0 for the
// other tokens; what `a` held counts where the needs are its own activations.
struct Pass {
  const Matrix& matrix;
  NeuronNeeds needs;
  Activation kind;
  bool is_activated;  // act(product) or the product itself
  bool is_factor;     // of what needs.activations has
  TensorView a;

  float Finish(float before, float product) const {
    const float value = is_activated ? Activated(kind, product) : product;
    return is_factor ? before * value : value;
  }
};

// Bit i: the token whose row this is needs neuron ids[i], for n <= 64 of them.
uint64_t NeededBits(const NeuronNeeds& needs, int64_t token, const int32_t* ids, int64_t n) {
  const bool are_known = !needs.activations.empty();
  if (!are_known && needs.scores.empty()) return n == 64 ? ~uint64_t{0} : (uint64_t{1} << n) - 1;
  const float* const row = (are_known ? needs.activations : needs.scores).f32_row(token);
  uint64_t bits = 0;
  if (are_known) {
    for (int64_t i = 0; i < n; ++i) bits |= uint64_t{row[ids[i]] != 0.0f} << i;
  } else {
    for (int64_t i = 0; i < n; ++i) bits |= uint64_t{row[ids[i]] >= needs.threshold} << i;
  }
  return bits;
}

// The ids of a part, walked once per pass.
class PartRunner {
 public:
  // `values` has room for kChunk.
  PartRunner(const Pass& pass, std::span<int32_t> ids, float* values)
      : pass_(pass),
        ids_(ids),
        values_(values),
        is_short_(kChunkOfOneToken * pass.matrix.w.row_stride_bytes <= kL1ChunkBytes) {}

  // Returns the ids whose result is not 0 for some token, moved to the front.
  std::span<int32_t> Run() {
    const auto n = static_cast<int64_t>(ids_.size());
    const int64_t step = pass_.a.n_rows == 1 ? kChunkOfOneToken : kChunk;
    size_t n_kept = 0;
    for (first_ = 0; first_ < n; first_ += step) {
      n_ = std::min(step, n - first_);
      fetched_ = std::max(fetched_, first_ + n_);
      fetch_end_ = std::min(n, first_ + n_ + step);
      not_zero_ = 0;
      for (t0_ = 0; t0_ < pass_.a.n_rows; t0_ += kTokens) RunChunk();
      for (uint64_t left = not_zero_; left != 0; left &= left - 1) {
        ids_[n_kept++] = id(std::countr_zero(left));
      }
    }
    return ids_.first(n_kept);
  }

 private:
  void RunChunk() {
    n_tokens_ = std::min(kTokens, pass_.a.n_rows - t0_);
    FindNeeds();
    for (int64_t t = 0; t < n_tokens_; ++t) {
      RunToken(t);
      Store(t);
    }
  }

  void FindNeeds() {
    int64_t n_groups = 0;
    for (int64_t t = 0; t < n_tokens_; ++t) {
      needed_[t] = NeededBits(pass_.needs, t0_ + t, &ids_[static_cast<size_t>(first_)], n_);
      n_groups += (std::popcount(needed_[t]) + RowGroup::kRows - 1) / RowGroup::kRows;
    }
    fetch_begin_ = fetched_;
    n_groups_ = n_groups;
    group_ = 0;
  }

  // The rows that token t needs, a group at a time.
  void RunToken(int64_t t) {
    const Matrix& matrix = pass_.matrix;
    uint64_t left = needed_[t];
    while (left != 0) {
      RowGroup group;
      int64_t members[RowGroup::kRows];
      for (; left != 0 && group.n_rows < RowGroup::kRows; left &= left - 1) {
        members[group.n_rows] = std::countr_zero(left);
        group.rows[group.n_rows] = matrix.w.row(id(members[group.n_rows]));
        ++group.n_rows;
      }
      FetchAhead(group);
      float products[RowGroup::kRows];
      matrix.dot(group, matrix.x.row(t0_ + t), matrix.w.n_cols, products);
      for (int r = 0; r < group.n_rows; ++r) {
        const float bias = matrix.bias == nullptr ? 0.0f : matrix.bias[id(members[r])];
        values_[members[r]] = matrix.bias == nullptr ? products[r] : products[r] + bias;
      }
    }
  }

  // What this group fetches of the next chunk: for one token its share of the lines of all rows,
  // which lie side by side then, for several tokens a few whole rows.
  void FetchAhead(RowGroup& group) {
    const TensorView& w = pass_.matrix.w;
    const uint64_t row_bytes = RowBytes(w.dtype, static_cast<uint64_t>(w.n_cols));
    const bool is_one_token = pass_.a.n_rows == 1;
    int64_t begin = fetched_, end = 0;
    if (is_one_token) {
      begin = fetch_begin_;
      end = fetch_end_;
      group.ahead_begin = ShareOf(row_bytes, group_);
      group.ahead_end = ShareOf(row_bytes, group_ + 1);
      group.is_ahead_next = is_short_;
    } else {
      end = fetch_begin_ + (fetch_end_ - fetch_begin_) * (group_ + 1) / n_groups_;
      group.ahead_end = static_cast<int64_t>(row_bytes);
    }
    for (; group.n_ahead < RowGroup::kAhead && begin < end; ++begin) {
      group.ahead[group.n_ahead++] = w.row(ids_[static_cast<size_t>(begin)]);
    }
    fetched_ = begin;
    ++group_;
  }

  // Where the share of the chunk's group number `group` of n_bytes begins, in whole lines.
  int64_t ShareOf(uint64_t n_bytes, int64_t group) const {
    constexpr uint64_t kLineBytes = 64;
    const auto n_groups = static_cast<uint64_t>(n_groups_);
    return static_cast<int64_t>(
        RoundUp(n_bytes * static_cast<uint64_t>(group) / n_groups, kLineBytes));
  }

  // What token t needed, and 0 for the rest of the chunk.
  void Store(int64_t t) {
    float* const a = pass_.a.f32_row(t0_ + t);
    const float* const before =
        pass_.is_factor ? pass_.needs.activations.f32_row(t0_ + t) : nullptr;
    const uint64_t needed = needed_[t];
    for (uint64_t left = needed; left != 0; left &= left - 1) {
      const int i = std::countr_zero(left);
      values_[i] = pass_.Finish(before == nullptr ? 1.0f : before[id(i)], values_[i]);
      not_zero_ |= uint64_t{values_[i] != 0.0f} << i;
    }
    for (int64_t i = 0; i < n_; ++i) a[id(i)] = (needed >> i & 1) != 0 ? values_[i] : 0.0f;
  }

  int32_t id(int64_t i) const { return ids_[static_cast<size_t>(first_ + i)]; }

  const Pass& pass_;
  const std::span<int32_t> ids_;
  float* const values_;               // of one token's neurons of the chunk
  const bool is_short_;               // the rows
  uint64_t needed_[kTokens];          // bit i: the token needs neuron i of the chunk
  uint64_t not_zero_ = 0;             // bit i: neuron i's result is not 0 for some token
  int64_t first_ = 0, n_ = 0;         // the chunk, as positions in the list
  int64_t t0_ = 0, n_tokens_ = 0;     // the tokens of a word
  int64_t group_ = 0, n_groups_ = 0;  // groups run, and all of this chunk and word
  // Rows asked for so far; those from `begin` to `end` are spread over the groups.
  int64_t fetched_ = 0, fetch_begin_ = 0, fetch_end_ = 0;
};

}  // namespace

int64_t Neurons(CpuContext& context, const NeuronWeights& weights, Activation kind, TensorView x,
                ActiveIds active, const NeuronNeeds& needs, TensorView a) {
  const bool gate_is_known = !needs.activations.empty();
  const bool reads_gate = !gate_is_known && !weights.gate.empty();
  const bool is_gated = gate_is_known || reads_gate;
  const bool is_packed = weights.up.layout == RowLayout::kLanes ||
                         (reads_gate && weights.gate.layout == RowLayout::kLanes);
  const TokenRows floats(x);
  const TokenRows bytes = is_packed ? TokenRows::Rounded(context, x) : floats;
  const auto rows_for = [&](const TensorView& w) {
    return w.layout == RowLayout::kLanes ? bytes : floats;
  };
  const Matrix gate(weights.gate, weights.gate_bias, rows_for(weights.gate));
  const Matrix up(weights.up, weights.up_bias, rows_for(weights.up));
  const Pass gates{gate, needs, kind, true, false, a};
  const Pass ups{up,       reads_gate ? NeuronNeeds{.activations = a} : needs,
                 kind,     weights.activates_up || !is_gated,
                 is_gated, a};
  const int64_t n = active.count(weights.up.n_rows);
  // Room for every neuron: how many are active differs from step to step.
  auto* ids = reinterpret_cast<int32_t*>(
      context.neuron_ids.Reserve(sizeof(int32_t) * static_cast<size_t>(weights.up.n_rows)));
  std::atomic<int64_t> n_ups = 0;
  ForParts(context, n, 1, MinItems(2 * x.n_cols), [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) ids[i] = static_cast<int32_t>(active.id(i));
    std::span<int32_t> part(ids + begin, ids + end);
    float* const values = context.thread_scratch(thread);
    if (reads_gate) {
      part = PartRunner(gates, part, values).Run();
    }
    n_ups += static_cast<int64_t>(part.size());
    PartRunner(ups, part, values).Run();
  });
  return n_ups;
}

}  // namespace thermocline::kernels::cpu
