// Row products and AXPY over the active neurons of a layer, against the speed of copies within the
// device's memory and against dense products of the same layer; F16 weights, one token. Where the
// device has rows of FP8, the same of these, against F16.
//
//   sparse_rows [DEVICE [N_EMBD N_FF [PERCENT]]]      default: cuda 8192 28672 10
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <vector>

#include "base/clock.h"
#include "base/half.h"
#include "base/str.h"
#include "kernels/lanes.h"
#include "tests/bench/bench_device.h"
#include "tests/bench/dense_product.h"
#include "tests/bench/median.h"

namespace thermocline::bench {
namespace {

using kernels::ActiveIds;
using kernels::Device;

// Lists that take turns: together they touch several times what a second-level cache holds.
constexpr size_t kLists = 8;
constexpr int kMostRounds = 7;
constexpr int kCallsPerRound = 2 * kLists;
constexpr uint64_t kCopyBytes = uint64_t{1} << 30;

struct Shape {
  int64_t n_embd = 8192;
  int64_t n_ff = 28672;
  int percent = 10;
  int n_rounds = kMostRounds;  // of calls
};

// Memory of the device that holds values of the host.
class OnDevice {
 public:
  static Result<OnDevice> Of(Device& device, uint64_t n_bytes,
                             const std::vector<std::byte>& filling) {
    OnDevice memory;
    TC_ASSIGN_OR_RETURN(memory.buffer_, device.Allocate(n_bytes));
    for (uint64_t at = 0; at < n_bytes && !filling.empty(); at += filling.size()) {
      device.CopyToDevice(filling.data(), memory.buffer_.data() + at,
                          std::min<uint64_t>(filling.size(), n_bytes - at));
    }
    TC_RETURN_IF_ERROR(device.Synchronize());
    return memory;
  }
  std::byte* data() { return buffer_.data(); }

 private:
  Buffer buffer_;
};

template <typename T>
std::vector<std::byte> BytesOf(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

// Some MB of weights, which repeat; their values do not matter but for being ordinary.
std::vector<std::byte> SomeHalves() {
  std::mt19937 random(1);
  std::uniform_real_distribution<float> values(-0.05f, 0.05f);
  std::vector<uint16_t> halves((4 << 20) + 8);
  for (uint16_t& half : halves) half = F32ToF16(values(random));
  return BytesOf(halves);
}

// What is computed with, all in the device's memory.
struct Layer {
  DType dtype = DType::kF16;
  OnDevice gate, up, down, x, x_half, a, y, y_half;
  std::vector<OnDevice> lists;  // the number of ids, and they
  int32_t n_active = 0;
};

Result<OnDevice> MakeList(Device& device, const Shape& shape, uint32_t seed, int32_t n_active) {
  std::vector<int32_t> all(static_cast<size_t>(shape.n_ff));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int32_t>(i);
  std::shuffle(all.begin(), all.end(), std::mt19937(seed));
  std::sort(all.begin(), all.begin() + n_active);
  std::vector<int32_t> words = {n_active};
  words.insert(words.end(), all.begin(), all.begin() + n_active);
  words.resize(all.size() + 1);
  return OnDevice::Of(device, words.size() * sizeof(int32_t), BytesOf(words));
}

// Halves make FP8 as well: their bytes are codes, or scales of their size.
Result<Layer> MakeLayer(Device& device, const Shape& shape, DType dtype) {
  Layer layer;
  layer.dtype = dtype;
  const std::vector<std::byte> halves = SomeHalves();
  const uint64_t matrix_bytes =
      RowBytes(dtype, static_cast<uint64_t>(shape.n_embd * shape.n_ff)) + kernels::kLanesSlackBytes;
  for (OnDevice* matrix : {&layer.gate, &layer.up, &layer.down}) {
    TC_ASSIGN_OR_RETURN(*matrix, OnDevice::Of(device, matrix_bytes, halves));
  }
  const auto most = static_cast<size_t>(std::max(shape.n_embd, shape.n_ff));
  const auto ones = BytesOf(std::vector<float>(most, 1.0f));
  for (OnDevice* row : {&layer.x, &layer.a, &layer.y}) {
    TC_ASSIGN_OR_RETURN(*row, OnDevice::Of(device, ones.size(), ones));
  }
  for (OnDevice* row : {&layer.x_half, &layer.y_half}) {
    TC_ASSIGN_OR_RETURN(*row, OnDevice::Of(device, most * sizeof(uint16_t), halves));
  }
  layer.n_active = static_cast<int32_t>(shape.n_ff * shape.percent / 100);
  for (uint32_t i = 0; i < kLists; ++i) {
    TC_ASSIGN_OR_RETURN(layer.lists.emplace_back(), MakeList(device, shape, i, layer.n_active));
  }
  return layer;
}

// The median time of a call, of so many rounds of many.
Result<double> SecondsOf(Device& device, int n_rounds,
                         const std::function<Status(size_t call)>& enqueue) {
  std::vector<double> seconds;
  const SteadyClock clock;
  for (int round = -1; round < n_rounds; ++round) {  // the first warms up
    TC_RETURN_IF_ERROR(device.Synchronize());
    const TimePoint begin = clock.Now();
    for (size_t call = 0; call < kCallsPerRound; ++call) TC_RETURN_IF_ERROR(enqueue(call));
    TC_RETURN_IF_ERROR(device.Synchronize());
    if (round >= 0) seconds.push_back(Seconds(clock.Now() - begin) / kCallsPerRound);
  }
  return MedianOf(seconds);
}

// Bytes read and written.
Result<double> CopyBytesPerS(Device& device, int n_rounds) {
  const uint64_t n_bytes = std::min(kCopyBytes, device.memory().free_bytes / 4);
  if (n_bytes == 0) return 0.0;  // memory of the host
  TC_ASSIGN_OR_RETURN(OnDevice from, OnDevice::Of(device, n_bytes, {}));
  TC_ASSIGN_OR_RETURN(OnDevice to, OnDevice::Of(device, n_bytes, {}));
  TC_ASSIGN_OR_RETURN(const double seconds, SecondsOf(device, n_rounds, [&](size_t) {
                        device.CopyWithin(from.data(), to.data(), n_bytes);
                        return OkStatus();
                      }));
  return 2 * static_cast<double>(n_bytes) / seconds;
}

// Of one layer, in seconds a call.
struct LayerTimes {
  double row_dot_s = 0, axpy_s = 0;
};

class Measurement {
 public:
  Measurement(Device& device, const Shape& shape, double copy_bytes_per_s, Layer* layer)
      : device_(device), shape_(shape), layer_(*layer), copy_bytes_per_s_(copy_bytes_per_s) {}

  Result<LayerTimes> Times() {
    LayerTimes times;
    TC_ASSIGN_OR_RETURN(times.row_dot_s, SecondsOf(device_, shape_.n_rounds, [&](size_t call) {
                          RowDot(call);
                          return OkStatus();
                        }));
    TC_ASSIGN_OR_RETURN(times.axpy_s, SecondsOf(device_, shape_.n_rounds, [&](size_t call) {
                          Axpy(call);
                          return OkStatus();
                        }));
    return times;
  }
  // F16, with dense products of the same matrices.
  Status ShowAgainstDense(const LayerTimes& times) {
    const auto dense = MakeDenseProduct(device_);
    if (!dense.ok()) std::fprintf(stderr, "%s\n", dense.status().message().c_str());
    TC_RETURN_IF_ERROR(ShowWithDense("row-dot (gate, up)", times.row_dot_s,
                                     {layer_.gate.data(), layer_.up.data()}, shape_.n_ff,
                                     shape_.n_embd, dense));
    return ShowWithDense("AXPY (down)", times.axpy_s, {layer_.down.data()}, shape_.n_embd,
                         shape_.n_ff, dense);
  }
  void ShowAgainst(const LayerTimes& halves, const LayerTimes& times) const {
    ShowTouched("row-dot (gate, up)", times.row_dot_s, 2);
    std::printf(" %.2f times as fast as F16 |\n", halves.row_dot_s / times.row_dot_s);
    ShowTouched("AXPY (down)", times.axpy_s, 1);
    std::printf(" %.2f times as fast as F16 |\n", halves.axpy_s / times.axpy_s);
  }

 private:
  TensorView Matrix(std::byte* data, int64_t n_rows, int64_t n_cols) const {
    TensorView view = TensorView::Dense(data, layer_.dtype, n_rows, n_cols);
    view.layout = device_.PreferredLayout(layer_.dtype);
    return view;
  }
  TensorView Row(OnDevice& row, int64_t n, DType dtype = DType::kF32) const {
    return TensorView::Dense(row.data(), dtype, 1, n);
  }
  ActiveIds List(size_t call) const {
    auto* words = reinterpret_cast<int32_t*>(layer_.lists[call % kLists].data());
    return {words + 1, words, static_cast<int32_t>(shape_.n_ff)};
  }
  void RowDot(size_t call) {
    const kernels::NeuronWeights weights = {
        .gate = Matrix(layer_.gate.data(), shape_.n_ff, shape_.n_embd),
        .gate_bias = {},
        .up = Matrix(layer_.up.data(), shape_.n_ff, shape_.n_embd),
        .up_bias = {}};
    device_.ops().Neurons(weights, kernels::Activation::kSilu, Row(layer_.x, shape_.n_embd),
                          List(call), {}, Row(layer_.a, shape_.n_ff));
  }
  void Axpy(size_t call) {
    device_.ops().AxpyRows(Matrix(layer_.down.data(), shape_.n_ff, shape_.n_embd),
                           Row(layer_.a, shape_.n_ff), List(call), {},
                           Row(layer_.y, shape_.n_embd));
  }
  void ShowTouched(const char* what, double seconds, size_t n_matrices) const {
    const auto row_bytes =
        static_cast<double>(RowBytes(layer_.dtype, static_cast<uint64_t>(shape_.n_embd)));
    const double touched = static_cast<double>(n_matrices) * layer_.n_active * row_bytes / seconds;
    std::printf("| %s, %s | %.1f | %.0f |", what, DTypeName(layer_.dtype).data(), seconds * 1e6,
                touched / 1e9);
    copy_bytes_per_s_ > 0 ? std::printf(" %.2f (wanted 0.80) |", touched / copy_bytes_per_s_)
                          : std::printf(" |");
  }
  // n_out x n_in each.
  Status ShowWithDense(const char* what, double seconds, const std::vector<std::byte*>& matrices,
                       int64_t n_out, int64_t n_in,
                       const Result<std::unique_ptr<DenseProduct>>& dense) {
    ShowTouched(what, seconds, matrices.size());
    if (!dense.ok()) return std::printf(" not measured |\n") > 0 ? OkStatus() : Internal("output");
    TC_ASSIGN_OR_RETURN(
        const double dense_s, SecondsOf(device_, shape_.n_rounds, [&](size_t) -> Status {
          for (std::byte* matrix : matrices) {
            TC_RETURN_IF_ERROR((*dense)->Run(Matrix(matrix, n_out, n_in),
                                             Row(layer_.x_half, n_in, DType::kF16),
                                             Row(layer_.y_half, n_out, DType::kF16)));
          }
          return OkStatus();
        }));
    std::printf(" %.1f times faster than dense by cuBLAS (wanted 4), %.1f us |\n",
                dense_s / seconds, dense_s * 1e6);
    return OkStatus();
  }

  Device& device_;
  const Shape shape_;
  Layer& layer_;
  const double copy_bytes_per_s_;
};

Status Measure(const std::string& device_text, const Shape& shape) {
  TC_ASSIGN_OR_RETURN(const auto opened, OpenDevice(device_text));
  Device& device = *opened;
  TC_ASSIGN_OR_RETURN(const double copy_bytes_per_s, CopyBytesPerS(device, shape.n_rounds));
  std::printf("%s, n_embd %lld, n_ff %lld, %d %% active; copies within its memory: %.0f GB/s\n",
              device.name().c_str(), static_cast<long long>(shape.n_embd),
              static_cast<long long>(shape.n_ff), shape.percent, copy_bytes_per_s / 1e9);
  std::printf("\n| | us | GB/s touched | of copies | against |\n|---|---:|---:|---:|---:|\n");
  LayerTimes halves;
  {
    TC_ASSIGN_OR_RETURN(Layer layer, MakeLayer(device, shape, DType::kF16));
    Measurement measurement(device, shape, copy_bytes_per_s, &layer);
    TC_ASSIGN_OR_RETURN(halves, measurement.Times());
    TC_RETURN_IF_ERROR(measurement.ShowAgainstDense(halves));
  }
  if (!device.has_fp8_rows()) return OkStatus();
  for (const DType dtype : {DType::kFp8E4M3, DType::kFp8E5M2}) {
    TC_ASSIGN_OR_RETURN(Layer layer, MakeLayer(device, shape, dtype));
    Measurement measurement(device, shape, copy_bytes_per_s, &layer);
    TC_ASSIGN_OR_RETURN(const LayerTimes times, measurement.Times());
    measurement.ShowAgainst(halves, times);
  }
  return OkStatus();
}

}  // namespace
}  // namespace thermocline::bench

int main(int argc, char** argv) {
  thermocline::bench::Shape shape;
  if (argc > 3) shape.n_embd = std::atoll(argv[2]), shape.n_ff = std::atoll(argv[3]);
  if (argc > 4) shape.percent = std::atoi(argv[4]);
  if (shape.n_embd < 1 || shape.n_ff < 1 || shape.percent < 1 || shape.percent > 100) {
    std::fprintf(stderr, "sparse_rows [DEVICE [N_EMBD N_FF [PERCENT]]]\n");
    return 2;
  }
  const char* device = argc > 1 ? argv[1] : "cuda";
  shape.n_rounds = thermocline::bench::RepeatsOn(device, shape.n_rounds);
  const auto status = thermocline::bench::Measure(device, shape);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
