#include "worker/probe/op_probe.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/rng.h"
#include "base/units.h"
#include "kernels/lanes.h"
#include "worker/probe/bandwidth_probe.h"
#include "worker/probe/cache_eviction.h"

namespace thermocline::worker {
namespace {

using placement::WeightRate;
using placement::WeightUse;

// What one call of a product reads: as large as a matrix of a small model, so that its start and
// end weigh what they do there.
constexpr uint64_t kMatrixBytes = 8 * kMiB;
// Rows to choose from, at most: as many as a layer of such a model has neurons.
constexpr uint64_t kMaxRows = 8192;
// Rows by which a call's time is judged beforehand: on a slow machine a call of the size above
// would take many times its slot. The least that is measured on, too.
constexpr int64_t kTrialRows = 64;
// What all calls of a case work on together: its lines are thrown out of the caches in about a
// millisecond.
constexpr uint64_t kCaseBytes = 32 * kMiB;
// On a device with memory of its own a matrix is read in ten microseconds or so, and calls follow
// one another in the queue, as a step's do.
constexpr uint64_t kApartMatrixBytes = 32 * kMiB;
constexpr size_t kApartCalls = 16;
constexpr int kApartTinyCalls = 64;
// Fits an L2 cache with the activations beside it.
constexpr uint64_t kCachedBytes = 256 * kKiB;
// Two of the parts that the CPU's ops hand to a thread; further threads wake and find nothing.
constexpr int64_t kTinyRows = 16;

// Of n_rows rows, lists of about `share` of them here and there, ascending; together all rows.
std::vector<std::vector<int32_t>> ListsOf(int64_t n_rows, double share) {
  constexpr uint64_t kSeed = 7;
  const double n_lists = std::max(1.0, std::round(1 / share));
  std::vector<std::vector<int32_t>> lists(static_cast<size_t>(n_lists));
  for (int64_t row = 0; row < n_rows; ++row) {
    const double list = UniformAt(kSeed, static_cast<uint64_t>(row)) * n_lists;
    lists[static_cast<size_t>(list)].push_back(static_cast<int32_t>(row));
  }
  return lists;
}

// Whether token t needs row i: every row is needed by one token, and by others as chance will have
// it, sqrt(n_tokens) of them on average. So it is in sparse models: of 4 tokens 1.9 and of 16
// tokens 4.0 met each active row where it was counted (10 % active, Gini 0.76).
class Needs {
 public:
  explicit Needs(int64_t n_tokens)
      : n_tokens_(static_cast<uint64_t>(n_tokens)),
        // (sqrt(n) - 1) / (n - 1), as a share of all 32-bit numbers.
        more_(n_tokens == 1 ? 0 : static_cast<uint32_t>(4294967296.0 / (1 + std::sqrt(n_tokens)))) {
  }

  bool Has(uint64_t t, uint64_t i) const {
    if (i % n_tokens_ == t) return true;
    uint64_t bits = (t * 0x9E3779B97F4A7C15u) ^ (i * 0xD1342543DE82EF95u);
    bits = (bits ^ (bits >> 32)) * 0xD6E8FEB86659FD93u;
    return static_cast<uint32_t>(bits >> 32) < more_;
  }

 private:
  const uint64_t n_tokens_;
  const uint32_t more_;
};

}  // namespace

OpProbe::OpProbe(kernels::Device& device, std::span<std::byte> region)
    : device_(device),
      is_apart_(!device.reads_host_memory()),
      region_(region),
      x_(device),
      y_(device),
      activations_(device),
      lists_(device),
      tiny_w_(device),
      tiny_x_(device),
      tiny_y_(device) {}

Result<OpProbe> OpProbe::Create(kernels::Device& device, std::span<std::byte> region) {
  CHECK(region.size() >= kMinBytes);
  OpProbe probe(device, region);
  const std::vector<std::byte> zeros(RowBytes(DType::kF16, kTinyRows * kProbeCols));
  TC_RETURN_IF_ERROR(probe.tiny_w_.Set(zeros));
  TC_RETURN_IF_ERROR(probe.tiny_x_.Set(std::span(zeros).first(RowBytes(DType::kF32, kProbeCols))));
  TC_RETURN_IF_ERROR(probe.tiny_y_.Room(RowBytes(DType::kF32, kTinyRows)));
  return probe;
}

template <typename Call>
Result<double> OpProbe::SecondsOf(Duration slot, Call call) {
  std::vector<double> seconds;
  const TimePoint end = clock_.Now() + slot;
  do {
    const TimePoint begin = clock_.Now();
    TC_RETURN_IF_ERROR(call());
    seconds.push_back(Seconds(clock_.Now() - begin));
  } while (clock_.Now() < end);
  return std::max(MedianSeconds(std::move(seconds)), 1e-9);
}

Status OpProbe::SetFloats(const std::vector<float>& values, ProbeValues* to) {
  return to->Set(std::as_bytes(std::span(values)));
}

// As many whole rows as fit `n_bytes` and the rest of the region.
TensorView OpProbe::Weights(DType dtype, uint64_t begin_bytes, uint64_t n_bytes) const {
  const uint64_t left = region_.size() - kernels::kLanesSlackBytes - begin_bytes;
  const auto n_rows = static_cast<int64_t>(std::min(n_bytes, left) / RowBytes(dtype, kProbeCols));
  TensorView w = TensorView::Dense(region_.data() + begin_bytes, dtype, n_rows, kProbeCols);
  w.layout = device_.PreferredLayout(dtype);
  return w;
}

void OpProbe::MatMul(const TensorView& w, int64_t n_tokens) {
  device_.ops().MatMul(w, TensorView::Dense(x_.data(), DType::kF32, n_tokens, w.n_cols),
                       TensorView{}, TensorView::Dense(y_.data(), DType::kF32, n_tokens, w.n_rows));
}

Result<OpProbe::Case> OpProbe::CaseOf(const WeightRate& rate, uint64_t matrix_bytes,
                                      size_t n_matrices) {
  Case test{.matrices = {}, .lists = {}, .list_offsets = {}, .n_tokens = rate.n_tokens};
  const uint64_t most = is_apart_ ? kApartBytes : kCaseBytes;
  const uint64_t end = std::min<uint64_t>(region_.size(), most + kernels::kLanesSlackBytes);
  uint64_t begin = 0;
  do {
    test.matrices.push_back(Weights(rate.dtype, begin, matrix_bytes));
    begin += RoundUp(test.matrices.back().bytes(), uint64_t{is_apart_ ? 256u : 64u});
  } while (begin + matrix_bytes + kernels::kLanesSlackBytes <= end &&
           test.matrices.size() < n_matrices);
  const int64_t n_rows = test.matrices.front().n_rows;
  const auto n_values = static_cast<size_t>(rate.n_tokens * std::max(kProbeCols, n_rows));
  TC_RETURN_IF_ERROR(SetFloats(std::vector<float>(n_values, 0.5f), &x_));
  TC_RETURN_IF_ERROR(y_.Room(n_values * sizeof(float)));
  if (rate.use == WeightUse::kMatMul) return test;
  test.lists = ListsOf(n_rows, rate.row_share);
  TC_RETURN_IF_ERROR(PlaceLists(&test));
  const Needs needs(rate.n_tokens);
  std::vector<float> activations;
  for (uint64_t t = 0; t < static_cast<uint64_t>(rate.n_tokens); ++t) {
    for (uint64_t i = 0; i < static_cast<uint64_t>(n_rows); ++i) {
      activations.push_back(needs.Has(t, i) ? 0.5f : 0.0f);
    }
  }
  TC_RETURN_IF_ERROR(SetFloats(activations, &activations_));
  return test;
}

// One after the other.
Status OpProbe::PlaceLists(Case* test) {
  std::vector<int32_t> words;
  for (const std::vector<int32_t>& list : test->lists) {
    test->list_offsets.push_back(words.size() * sizeof(int32_t));
    words.push_back(static_cast<int32_t>(list.size()));
    words.insert(words.end(), list.begin(), list.end());
  }
  return lists_.Set(std::as_bytes(std::span(words)));
}

uint64_t OpProbe::Run(WeightUse use, Case& test, size_t call) {
  const TensorView& w = test.matrices[call % test.matrices.size()];
  const auto view = [&](const ProbeValues& values, int64_t n_cols) {
    return TensorView::Dense(values.data(), DType::kF32, test.n_tokens, n_cols);
  };
  if (use == WeightUse::kMatMul) {
    MatMul(w, test.n_tokens);
    return w.bytes();
  }
  const size_t i_list = call / test.matrices.size();
  const std::vector<int32_t>& list = test.lists[i_list];
  auto* const words = reinterpret_cast<int32_t*>(lists_.data() + test.list_offsets[i_list]);
  const kernels::ActiveIds ids{words + 1, words, static_cast<int32_t>(list.size())};
  const TensorView activations = view(activations_, w.n_rows);
  if (use == WeightUse::kNeurons) {
    device_.ops().Neurons({.up = w}, kernels::Activation::kRelu, view(x_, w.n_cols), ids,
                          {.scores = activations, .threshold = 0.25f}, view(y_, w.n_rows));
  } else {
    device_.ops().AxpyRows(w, activations, ids, {}, view(y_, w.n_cols));
  }
  return list.size() * static_cast<uint64_t>(w.row_stride_bytes);
}

// Bytes of a matrix that one call works through within `slot`.
Result<uint64_t> OpProbe::MatrixBytes(const WeightRate& rate, Duration slot) {
  const uint64_t row_bytes = RowBytes(rate.dtype, kProbeCols);
  const uint64_t matrix_bytes = is_apart_ ? kApartMatrixBytes : kMatrixBytes;
  const auto wanted = static_cast<uint64_t>(static_cast<double>(matrix_bytes) / rate.row_share);
  const uint64_t most = std::min({wanted, kMaxRows * row_bytes, kCaseBytes});
  const uint64_t least = kTrialRows * row_bytes;
  TC_ASSIGN_OR_RETURN(Case trial, CaseOf(rate, least, 1));
  const TimePoint begin = clock_.Now();
  for (size_t call = 0; call < trial.n_calls(); ++call) (void)Run(rate.use, trial, call);
  TC_RETURN_IF_ERROR(Finish());
  // Each call of a case reads one list's share of its matrix.
  const double seconds = Seconds(clock_.Now() - begin) / static_cast<double>(trial.n_calls());
  const double fitting = Seconds(slot) / std::max(seconds, 1e-9) * static_cast<double>(least);
  return fitting >= static_cast<double>(most)
             ? most
             : std::max(least, static_cast<uint64_t>(fitting) / row_bytes * row_bytes);
}

Result<double> OpProbe::BytesPerS(const WeightRate& rate, Duration slot) {
  const TimePoint end = clock_.Now() + slot;
  TC_ASSIGN_OR_RETURN(const uint64_t matrix_bytes, MatrixBytes(rate, slot));
  TC_ASSIGN_OR_RETURN(Case test, CaseOf(rate, matrix_bytes, SIZE_MAX));
  std::vector<double> seconds_per_byte;
  size_t call = 0;
  do {
    if (call % test.n_calls() == 0 && !is_apart_) {
      for (const TensorView& w : test.matrices) EvictFromCaches({w.data, w.bytes()});
      // Threads that fell asleep meanwhile would be late: within a step they spin from one op to
      // the next.
      TC_RETURN_IF_ERROR(TinyOpSeconds(Duration{0}).status());
    }
    const TimePoint begin = clock_.Now();
    uint64_t n_bytes = 0;
    for (size_t i = 0; i < (is_apart_ ? kApartCalls : 1); ++i) {
      n_bytes += Run(rate.use, test, call++ % test.n_calls());
    }
    TC_RETURN_IF_ERROR(Finish());
    const double seconds = Seconds(clock_.Now() - begin);
    if (n_bytes > 0) seconds_per_byte.push_back(seconds / static_cast<double>(n_bytes));
  } while (clock_.Now() < end);
  return seconds_per_byte.empty() ? 0 : 1 / MedianSeconds(std::move(seconds_per_byte));
}

Result<double> OpProbe::FlopsPerS(DType dtype, int n_tokens, Duration slot) {
  TensorView w = Weights(dtype, 0, is_apart_ ? kApartMatrixBytes : kCachedBytes);
  TC_RETURN_IF_ERROR(
      SetFloats(std::vector<float>(static_cast<size_t>(n_tokens * kProbeCols), 0.5f), &x_));
  TC_RETURN_IF_ERROR(y_.Room(static_cast<uint64_t>(n_tokens * w.n_rows) * sizeof(float)));
  const TimePoint begin = clock_.Now();
  MatMul(w.Rows(0, kTinyRows), n_tokens);
  TC_RETURN_IF_ERROR(Finish());
  const double share = Seconds(slot) / std::max(Seconds(clock_.Now() - begin), 1e-9);
  if (share * kTinyRows < static_cast<double>(w.n_rows)) {
    w = w.Rows(0, std::max<int64_t>(1, static_cast<int64_t>(share)) * kTinyRows);
  }
  MatMul(w, n_tokens);  // fetches the weights
  const auto call = [&] {
    MatMul(w, n_tokens);
    return Finish();
  };
  TC_ASSIGN_OR_RETURN(const double seconds, SecondsOf(slot, call));
  return 2.0 * static_cast<double>(n_tokens * w.n_rows * w.n_cols) / seconds;
}

Result<double> OpProbe::TinyOpSeconds(Duration slot) {
  const TensorView w = TensorView::Dense(tiny_w_.data(), DType::kF16, kTinyRows, kProbeCols);
  const TensorView x = TensorView::Dense(tiny_x_.data(), DType::kF32, 1, kProbeCols);
  const TensorView y = TensorView::Dense(tiny_y_.data(), DType::kF32, 1, kTinyRows);
  const int n_calls = is_apart_ ? kApartTinyCalls : 1;
  const auto call = [&] {
    for (int i = 0; i < n_calls; ++i) device_.ops().MatMul(w, x, TensorView{}, y);
    return Finish();
  };
  TC_RETURN_IF_ERROR(call());
  TC_ASSIGN_OR_RETURN(const double seconds, SecondsOf(slot, call));
  return seconds / n_calls;
}

Status ProbeValues::Room(uint64_t n_bytes) {
  if (memory_.size() >= n_bytes) return OkStatus();
  TC_RETURN_IF_ERROR(device_.Synchronize());
  TC_ASSIGN_OR_RETURN(memory_, device_.Allocate(n_bytes));
  return OkStatus();
}

Status ProbeValues::Set(std::span<const std::byte> bytes) {
  TC_RETURN_IF_ERROR(Room(bytes.size()));
  device_.CopyToDevice(bytes.data(), memory_.data(), bytes.size());
  return device_.Synchronize();
}

}  // namespace thermocline::worker
