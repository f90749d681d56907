#include "worker/probe/op_warmup.h"

#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "kernels/lanes.h"

namespace thermocline::worker {
namespace {

using kernels::ActiveIds;
using kernels::KvPages;
using kernels::SequenceRows;

// Every type's blocks divide it.
constexpr int64_t kCols = 512;
// One token and several have kernels of their own.
constexpr int64_t kRows = 2;
// Narrow, usual and wide heads have kernels of their own.
constexpr int kHeadDims[] = {64, 128, 256};
constexpr int kPageTokens = 16;
// Two chunks of positions, which a GPU gives to blocks of their own.
constexpr int64_t kLastPosition = 256;

// Zeros on the device, in pieces.
class Warmup {
 public:
  explicit Warmup(kernels::Device& device) : ops_(device.ops()), device_(device) {}

  Status Run(std::span<const DType> types) {
    constexpr uint64_t kPieceBytes =
        RowBytes(DType::kF32, kRows * kCols) + kernels::kLanesSlackBytes;
    constexpr uint64_t kPageBytes = kPageTokens * 256 * sizeof(float);
    for (Buffer* buffer : {&w_, &x_, &y_, &list_}) {
      TC_ASSIGN_OR_RETURN(*buffer, device_.Allocate(kPieceBytes));
    }
    for (Buffer* buffer : {&k_, &v_}) {
      TC_ASSIGN_OR_RETURN(*buffer, device_.Allocate(kPageBytes));
    }
    for (const DType dtype : types) {
      for (int64_t n_tokens = 1; n_tokens <= kRows; ++n_tokens) RunWeights(dtype, n_tokens);
    }
    for (const int head_dim : kHeadDims) {
      for (const DType dtype : {DType::kF32, DType::kF16}) RunHeads(dtype, head_dim);
    }
    RunElementwise();
    return device_.Synchronize();
  }

 private:
  static TensorView Values(const Buffer& buffer, int64_t n_rows, int64_t n_cols = kCols) {
    return TensorView::F32(reinterpret_cast<float*>(buffer.data()), n_rows, n_cols);
  }
  ActiveIds List() const {
    auto* const words = reinterpret_cast<int32_t*>(list_.data());
    return {words + 1, words, static_cast<int32_t>(kCols)};
  }

  void RunWeights(DType dtype, int64_t n_tokens) {
    TensorView w = TensorView::Dense(w_.data(), dtype, kRows, kCols);
    w.layout = device_.PreferredLayout(dtype);
    const TensorView x = Values(x_, n_tokens), of_neurons = Values(x_, n_tokens, kRows);
    const std::vector<int32_t> ids(static_cast<size_t>(n_tokens), 0);
    ops_.Embed(w, ids, Values(y_, n_tokens));
    ops_.MatMul(w, x, {}, Values(y_, n_tokens, kRows));
    ops_.Neurons({.up = w}, kernels::Activation::kRelu, x, ActiveIds::All(), {},
                 Values(y_, n_tokens, kRows));
    ops_.AxpyRows(w, of_neurons, ActiveIds::All(), {}, Values(y_, n_tokens));
  }

  void RunHeads(DType dtype, int head_dim) {
    const KvPages pages = {k_.data(), v_.data(), dtype, kPageTokens, 1, head_dim};
    const std::vector<int32_t> page_ids(kLastPosition / kPageTokens + 1, 0);
    const std::vector<SequenceRows> sequences = {{0, 1, kLastPosition, page_ids}};
    const std::vector<int64_t> positions = {kLastPosition};
    const TensorView x = Values(x_, 1, head_dim);
    kernels::RopeArgs rope;
    rope.n_rot = head_dim;
    rope.freq_base = 10000;
    ops_.Rope(rope, positions, head_dim, x);
    ops_.StoreKv(x, x, sequences, pages);
    ops_.Attention(x, sequences, pages, 1, Values(y_, 1, head_dim));
  }

  void RunElementwise() {
    const TensorView x = Values(x_, kRows), y = Values(y_, kRows), w = Values(w_, 1);
    ops_.RmsNorm(x, w, 1, y);
    ops_.LayerNorm(x, w, {}, 1, y);
    ops_.Add(x, y, y);
    ops_.Activate(kernels::Activation::kSilu, x, y, y);
    ops_.ZeroBelow(y, 0);
    ops_.SelectActive(x, List());
    ops_.SelectAtLeast(x, 0, List());
    ops_.SelectBest(x, 1, Values(y_, kRows, 2));
  }

  kernels::Ops& ops_;
  kernels::Device& device_;
  Buffer w_, x_, y_, list_, k_, v_;
};

}  // namespace

Status RunEveryOp(kernels::Device& device, std::span<const DType> types) {
  return Warmup(device).Run(types);
}

}  // namespace thermocline::worker
