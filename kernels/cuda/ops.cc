#include "kernels/cuda/ops.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/str.h"
#include "base/units.h"
#include "kernels/lanes.h"

namespace thermocline::kernels::cuda {
namespace {

// Blocks of a sum of neuron rows: two for each multiprocessor of an H100 or H200 with 16 warps
// between them. Not asked of the device: bits depend on it.
constexpr int64_t kAxpyBlocks = 264;
// Neurons of a slice, at least: a chunk for each of a block's 8 warps.
constexpr int64_t kAxpySliceNeurons = 8 * kSumChunk;
// Tokens whose partial sums lie in scratch at once, at most.
constexpr int64_t kAxpyBatch = 32;
// Of the rows of a batch rounded for packed weights.
constexpr int64_t kByteUnitBytes = kUnitElems + 4 * kUnitLanes;
// The third dimension of a grid, at most.
constexpr int64_t kMaxGridZ = 65535;
// Blocks below which attention gives every chunk of positions a block of its own.
constexpr int64_t kAttentionBlocksPerMultiprocessor = 2;

// A named range of the host's calls, for profilers.
class Range {
 public:
  Range(WorkQueue& queue, const char* name) : runtime_(queue.runtime()) {
    runtime_.PushRange(name);
  }
  ~Range() { runtime_.PopRange(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  Runtime& runtime_;
};

int64_t AxpySlices(const TensorView& w) {
  const auto n_units = static_cast<int64_t>(DivCeil(static_cast<uint64_t>(w.n_cols), kUnitElems));
  const int64_t most = (w.n_rows + kAxpySliceNeurons - 1) / kAxpySliceNeurons;
  return std::clamp<int64_t>(kAxpyBlocks / std::max<int64_t>(n_units, 1), 1,
                             std::max<int64_t>(most, 1));
}

bool IsPacked(const TensorView& w) { return w.layout == RowLayout::kLanes; }
// Whether products with it take activations of 8 bits.
bool WantsBytes(const TensorView& w) { return IsPacked(w) && MeetsBytes(w.dtype); }

int64_t RoundedRowBytes(const TensorView& x) {
  return (x.n_cols + kUnitElems - 1) / kUnitElems * kByteUnitBytes;
}

uint64_t BytesOfRow(const TensorView& w) {
  return RowBytes(w.dtype, static_cast<uint64_t>(w.n_cols));
}

}  // namespace

void CudaOps::Embed(TensorView table, std::span<const int32_t> ids, TensorView y) {
  const Range range(queue_, "embed");
  DCHECK(IsFloat(table.dtype) || IsPacked(table));
  traffic_.CountWeights(table, static_cast<int64_t>(ids.size()));
  const int32_t* const uploaded = Upload(UploadKind::kIds, ids);
  if (uploaded == nullptr) return;
  y.n_rows = static_cast<int64_t>(ids.size());
  kernels_.embed(stream_, table, uploaded, y);
}

void CudaOps::RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) {
  const Range range(queue_, "rms_norm");
  kernels_.rms_norm(stream_, x, weight, eps, y);
}

void CudaOps::LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps, TensorView y) {
  const Range range(queue_, "layer_norm");
  kernels_.layer_norm(stream_, x, weight, bias, eps, y);
}

int64_t CudaOps::RoundedAtOnce(const TensorView& x) const {
  return scratch_.Room(x.n_rows, static_cast<uint64_t>(RoundedRowBytes(x)));
}

ByteRows CudaOps::Rounded(const TensorView& x) {
  const ByteRows rows = {scratch_.data(), RoundedRowBytes(x)};
  kernels_.round_rows(stream_, x, rows);
  return rows;
}

void CudaOps::MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) {
  const Range range(queue_, "mat_mul");
  DCHECK(IsFloat(w.dtype) || IsPacked(w));
  traffic_.CountWeights(w, w.n_rows);
  const int64_t n_most = WantsBytes(w) ? RoundedAtOnce(x) : x.n_rows;
  for (int64_t t = 0; t < x.n_rows && !queue_.has_failed(); t += n_most) {
    const int64_t n = std::min(n_most, x.n_rows - t);
    RowDotsJob job;
    job.w = w, job.bias = bias, job.x = x.Rows(t, n), job.out = y.Rows(t, n);
    if (WantsBytes(w)) job.x_bytes = Rounded(job.x);
    kernels_.row_dots(stream_, job);
  }
}

const double* CudaOps::UploadFrequencies(const RopeArgs& args) {
  const bool is_known = frequencies_.size() == static_cast<size_t>(args.n_rot / 2) &&
                        frequencies_of_.freq_base == args.freq_base &&
                        frequencies_of_.freq_scale == args.freq_scale &&
                        std::ranges::equal(divisors_, args.freq_divisors);
  if (!is_known) {
    frequencies_of_ = args;
    divisors_.assign(args.freq_divisors.begin(), args.freq_divisors.end());
    frequencies_.clear();
    for (int i = 0; i < args.n_rot / 2; ++i) {
      const double divisor = divisors_.empty() ? 1.0 : divisors_[static_cast<size_t>(i)];
      frequencies_.push_back(args.freq_scale *
                             std::pow(static_cast<double>(args.freq_base), -2.0 * i / args.n_rot) /
                             divisor);
    }
  }
  return Upload(UploadKind::kFrequencies, std::span<const double>(frequencies_));
}

void CudaOps::Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
                   TensorView x) {
  const Range range(queue_, "rope");
  RopeJob job;
  job.x = x;
  job.positions = Upload(UploadKind::kPositions, positions);
  job.frequencies = UploadFrequencies(args);
  job.head_dim = head_dim;
  job.n_rot = args.n_rot;
  job.is_adjacent = args.pairing == RopePairing::kAdjacent;
  if (!queue_.has_failed()) kernels_.rope(stream_, job);
}

const SequenceSpan* CudaOps::UploadSequences(std::span<const SequenceRows> sequences) {
  const int32_t* const pages = Upload(UploadKind::kPages, lists_.Pages(sequences));
  if (pages == nullptr) return nullptr;
  return Upload(UploadKind::kSequences, lists_.Spans(sequences, pages));
}

void CudaOps::StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
                      const KvPages& pages) {
  const Range range(queue_, "store_kv");
  StoreKvJob job;
  job.k = k, job.v = v, job.pages = pages;
  job.sequences = UploadSequences(sequences);
  job.n_rows = static_cast<int32_t>(k.n_rows);
  job.sequence_of_row = Upload(UploadKind::kRows, lists_.SequenceOfRow(sequences, k.n_rows));
  if (!queue_.has_failed()) kernels_.store_kv(stream_, job);
}

// Blocks for positions that a sequence does not have return at once.
int64_t CudaOps::PositionsToSee(std::span<const SequenceRows> sequences) const {
  if (recorder_.is_recording()) return recorder_.n_positions();
  int64_t n_positions = 1;
  for (const SequenceRows& rows : sequences) {
    n_positions = std::max(n_positions, rows.first_position + rows.n_tokens);
  }
  return n_positions;
}

void CudaOps::Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
                        float scale, TensorView y) {
  const Range range(queue_, "attention");
  DCHECK(pages.head_dim <= kMaxHeadDim);  // as Prepare has seen
  traffic_.CountAttention(sequences, pages);
  AttentionJob job;
  job.q = q, job.y = y, job.pages = pages, job.scale = scale;
  job.n_head = static_cast<int32_t>(q.n_cols / pages.head_dim);
  const auto tiles = lists_.Tiles(sequences, job.n_head / pages.n_head_kv);
  job.n_tiles = static_cast<int32_t>(tiles.size());
  job.sequences = UploadSequences(sequences);
  job.tiles = Upload(UploadKind::kTiles, tiles);
  if (queue_.has_failed()) return;

  const int64_t n_chunks = (PositionsToSee(sequences) - 1) / kAttentionChunk + 1;
  const int64_t n_blocks = int64_t{job.n_tiles} * pages.n_head_kv;
  const int64_t enough =
      kAttentionBlocksPerMultiprocessor * queue_.runtime().facts().n_multiprocessors;
  const int64_t chunk_floats = n_blocks * kAttentionRows * (pages.head_dim + 2);
  const int64_t at_once = scratch_.Room(std::min(n_chunks, kMaxGridZ) + 1,
                                        static_cast<uint64_t>(chunk_floats) * sizeof(float)) -
                          1;
  if (n_chunks == 1 || n_blocks >= enough || at_once < 1) {
    return kernels_.attention(stream_, job);
  }
  job.partials = scratch_.floats();
  for (int64_t chunk = 0; chunk < n_chunks; chunk += at_once) {
    job.first_chunk = static_cast<int32_t>(chunk);
    job.n_chunks = static_cast<int32_t>(std::min(at_once, n_chunks - chunk));
    kernels_.attention(stream_, job);
  }
}

void CudaOps::Add(TensorView a, TensorView b, TensorView y) {
  const Range range(queue_, "add");
  kernels_.add(stream_, a, b, y);
}

void CudaOps::Copy(TensorView x, TensorView y) {
  const Range range(queue_, "copy");
  kernels_.copy(stream_, x, y);
}

void CudaOps::Activate(Activation kind, TensorView gate, TensorView up, TensorView y) {
  const Range range(queue_, "activate");
  kernels_.activate(stream_, kind, gate, up, y);
}

void CudaOps::Select(SelectJob job) {
  DCHECK(!job.active.all() && job.active.capacity >= job.a.n_cols);
  const uint64_t n_blocks = DivCeil(static_cast<uint64_t>(job.a.n_cols), kSelectCols);
  const uint64_t marks_bytes = n_blocks * kSelectCols / 8;
  DCHECK(scratch_.Room(1, marks_bytes + n_blocks * sizeof(int32_t)) == 1);
  job.marks = reinterpret_cast<uint32_t*>(scratch_.data());
  job.counts = reinterpret_cast<int32_t*>(scratch_.data() + marks_bytes);
  job.sums = queue_.sums();
  kernels_.select(stream_, job);
}

void CudaOps::SelectActive(TensorView a, ActiveIds active) {
  const Range range(queue_, "select_active");
  SelectJob job;
  job.a = a, job.active = active;
  Select(job);
}

void CudaOps::SelectAtLeast(TensorView scores, float threshold, ActiveIds active) {
  const Range range(queue_, "select_at_least");
  SelectJob job;
  job.a = scores, job.by_threshold = true, job.threshold = threshold, job.active = active;
  traffic_.CountScored(scores);
  Select(job);
}

void CudaOps::ZeroBelow(TensorView a, float threshold) {
  const Range range(queue_, "zero_below");
  kernels_.zero_below(stream_, a, threshold);
}

void CudaOps::SelectBest(TensorView logits, int k, TensorView best) {
  const Range range(queue_, "select_best");
  DCHECK(0 < k && k <= kMaxBest && k <= logits.n_cols);
  const auto row_bytes = static_cast<uint64_t>(BestKeysOfRow(logits.n_cols, k)) * sizeof(uint64_t);
  const int64_t n_most = scratch_.Room(best.n_rows, row_bytes);
  BestJob job;
  job.k = k, job.keys = reinterpret_cast<uint64_t*>(scratch_.data());
  for (int64_t t = 0; t < best.n_rows && !queue_.has_failed(); t += n_most) {
    const int64_t n = std::min(n_most, best.n_rows - t);
    job.logits = logits.Rows(t, n), job.best = best.Rows(t, n);
    kernels_.select_best(stream_, job);
  }
}

void CudaOps::Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
                      const NeuronNeeds& needs, TensorView a) {
  const Range range(queue_, "neurons");
  const bool wants_bytes = WantsBytes(weights.up) || WantsBytes(weights.gate);
  const int64_t n_most = wants_bytes ? RoundedAtOnce(x) : x.n_rows;
  RowDotsJob job;
  job.active = active, job.kind = kind, job.sums = queue_.sums();
  job.needs.threshold = needs.threshold;
  for (int64_t t = 0; t < x.n_rows && !queue_.has_failed(); t += n_most) {
    const int64_t n = std::min(n_most, x.n_rows - t);
    job.x = x.Rows(t, n), job.out = a.Rows(t, n);
    if (!needs.activations.empty()) job.needs.activations = needs.activations.Rows(t, n);
    if (!needs.scores.empty()) job.needs.scores = needs.scores.Rows(t, n);
    NeuronsOf(weights, job);
    job.sums = nullptr;
  }
}

void CudaOps::NeuronsOf(const NeuronWeights& weights, RowDotsJob job) {
  const bool gate_is_known = !job.needs.activations.empty();
  const bool reads_gate = !gate_is_known && !weights.gate.empty();
  if (WantsBytes(weights.up) || (reads_gate && WantsBytes(weights.gate))) {
    job.x_bytes = Rounded(job.x);
  }
  if (reads_gate) {
    job.w = weights.gate, job.bias = weights.gate_bias, job.is_activated = true;
    job.row_bytes = BytesOfRow(weights.gate);
    kernels_.row_dots(stream_, job);
    job.needs = {};
    job.needs.activations = job.out;
  }
  job.w = weights.up, job.bias = weights.up_bias;
  job.is_activated = weights.activates_up || !(gate_is_known || reads_gate);
  job.row_bytes = BytesOfRow(weights.up);
  kernels_.row_dots(stream_, job);
}

void CudaOps::AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                       TensorView y) {
  const Range range(queue_, "axpy_rows");
  AxpyJob job;
  job.w = w, job.a = a, job.active = active, job.bias = bias, job.y = y;
  Axpy(job);
}

void CudaOps::AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) {
  const Range range(queue_, "axpy_sums");
  AxpyJob job;
  job.w = w, job.a = a, job.active = active, job.unrounded = sums;
  Axpy(job);
}

void CudaOps::Axpy(AxpyJob job) {
  traffic_.CountNeuronsThere(job.w);
  job.sums = queue_.sums();
  job.n_slices = static_cast<int>(AxpySlices(job.w));
  job.row_bytes = BytesOfRow(job.w);
  const int64_t n_most = scratch_.Room(
      kAxpyBatch, static_cast<uint64_t>(job.n_slices * job.w.n_cols) * sizeof(double));
  job.partials = reinterpret_cast<double*>(scratch_.data());
  const AxpyJob all = job;
  for (int64_t t = 0; t < all.a.n_rows && !queue_.has_failed(); t += n_most) {
    const int64_t n = std::min(n_most, all.a.n_rows - t);
    job.a = all.a.Rows(t, n);
    if (all.unrounded.empty()) {
      job.y = all.y.Rows(t, n);
    } else {
      job.unrounded = all.unrounded.Rows(t, n);
    }
    kernels_.axpy_rows(stream_, job);
    job.sums = nullptr;
  }
}

void CudaOps::AddSums(SumsView sums, SumsView part) {
  const Range range(queue_, "add_sums");
  kernels_.add_sums(stream_, sums, part);
}

void CudaOps::RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) {
  const Range range(queue_, "round_sums");
  kernels_.round_sums(stream_, sums, part, bias, y);
}

Status CudaOps::Prepare(const StepBounds& bounds) {
  if (bounds.head_dim > kMaxHeadDim) {
    return InvalidArgument(Str("heads are wider than attention on GPUs takes:",
                               Kv("head_dim", bounds.head_dim), Kv("max", kMaxHeadDim)));
  }
  // Lists of pages are the longest. Of rows the tiles are: one for each 8 query heads of a KV head,
  // and one begun; 16 hold 120 of them.
  constexpr int64_t kBytesPerRow = 16 * sizeof(RowTile);
  const int64_t n_bytes = std::max(bounds.max_pages * static_cast<int64_t>(sizeof(int32_t)),
                                   bounds.max_rows * kBytesPerRow);
  TC_RETURN_IF_ERROR(recorder_.Reserve(bounds));
  return uploads_.Reserve(std::max(static_cast<uint64_t>(n_bytes), StepPlaces::BytesFor(bounds)));
}

void CudaOps::FoldTraffic(const TrafficSums& sums) {
  // Sums only grow; those of a mark before another that was waited for are in it.
  if (sums.neuron_bytes < folded_.neuron_bytes || sums.n_active < folded_.n_active) return;
  traffic_.CountGathered(sums.neuron_bytes - folded_.neuron_bytes, sums.n_active - folded_.n_active,
                         sums.n_named - folded_.n_named);
  folded_ = sums;
}

}  // namespace thermocline::kernels::cuda
