#include "worker/shard.h"

#include <algorithm>

#include "base/check.h"
#include "base/str.h"
#include "kernels/lanes.h"
#include "worker/residency.h"

namespace thermocline::worker {
namespace {

using model::WeightKey;
using model::WeightRole;

// Between two progress reports: a few ms of disk reading.
constexpr size_t kProgressBytes = 8 << 20;

// Quantised columns cannot be cut into rows without dequantising them; F16 keeps 11 bits of each
// weight, four more than the widest quantised type here.
DType RelaidType(DType type) { return IsFloat(type) ? type : DType::kF16; }

TensorView MappedView(const model::TensorInfo& info, std::span<const std::byte> mapping) {
  // Weights are never written: views are mutable only because activations share the type.
  auto* data = const_cast<std::byte*>(mapping.data() + info.offset_bytes);
  return TensorView::Dense(data, info.dtype, info.n_rows(), info.n_cols());
}

// Matrices that a step reads row after row. A token embedding is looked up, a row per token, unless
// it is the head too; vectors are a row each. Both stay where they are mapped.
bool IsStreamed(const WeightKey& key, const model::WeightIndex& weights) {
  if (weights.Find(key.role, key.layer)->n_rows() <= 1) return false;
  return key.role != WeightRole::kTokenEmbd || weights.Find(WeightRole::kOutput) == nullptr;
}

}  // namespace

Result<Shard> Shard::Load(const ModelSource& source, const model::LayerRange& layers,
                          const FfnPlan& ffn, kernels::Device& device,
                          const LoadProgressFn& on_progress) {
  const model::WeightIndex& weights = source.weights;
  const model::RangeReader& reader = source.reader;
  const auto mapping = reader.Mapping();
  if (mapping.empty()) {
    return Unavailable(Str("weights must lie in a mappable file: ", reader.name()));
  }
  if (!device.reads_host_memory()) {
    return Unavailable(Str("this device cannot use weights in host memory: ", device.name()));
  }
  Shard shard;
  shard.report_.owned_bytes = weights.BytesOf(layers);
  if (ffn.has_predictors()) shard.report_.owned_bytes += weights.PredictorBytesOf(layers);
  int n_relaid = 0;
  DType relaid_dtype = DType::kF32;
  for (const WeightKey& key : weights.KeysOf(layers)) {
    const model::TensorInfo& info = *weights.Find(key.role, key.layer);
    const auto bytes = mapping.subspan(info.offset_bytes, info.size_bytes);
    const TensorView mapped = MappedView(info, mapping);
    if (ffn.has_neuron_rows() && key.role == WeightRole::kFfnDown) {
      TC_RETURN_IF_ERROR(shard.ReadBytes(bytes, on_progress).WithContext(info.name));
      TC_RETURN_IF_ERROR(shard.Relay(key.layer, mapped, device).WithContext(info.name));
      reader.Evict(info.offset_bytes, info.size_bytes);
      relaid_dtype = RelaidType(info.dtype);
      ++n_relaid;
    } else if (IsStreamed(key, weights)) {
      TC_RETURN_IF_ERROR(shard.Pack(key, info, reader, device, on_progress).WithContext(info.name));
    } else {
      TC_RETURN_IF_ERROR(shard.ReadBytes(bytes, on_progress).WithContext(info.name));
      shard.views_[key] = mapped;
    }
  }
  if (ffn.has_predictors()) {
    TC_RETURN_IF_ERROR(shard.LoadPredictors(source, layers, device, on_progress));
  }
  if (n_relaid > 0) {
    shard.report_.note = Str("ffn_down of ", n_relaid, " layers re-laid to ",
                             DTypeName(relaid_dtype), " neuron rows");
  }
  return shard;
}

Status Shard::LoadPredictors(const ModelSource& source, const model::LayerRange& layers,
                             kernels::Device& device, const LoadProgressFn& on_progress) {
  const bool apart = source.weights.has_attached_predictors();
  CHECK(!apart || source.predictor_reader != nullptr);
  const model::RangeReader& reader = apart ? *source.predictor_reader : source.reader;
  if (reader.Mapping().empty()) {
    return Unavailable(Str("predictors must lie in a mappable file: ", reader.name()));
  }
  for (const WeightKey& key : source.weights.PredictorKeysOf(layers)) {
    const model::TensorInfo& info = *source.weights.Find(key.role, key.layer);
    TC_RETURN_IF_ERROR(Pack(key, info, reader, device, on_progress).WithContext(info.name));
  }
  return OkStatus();
}

Status Shard::ReadBytes(std::span<const std::byte> bytes, const LoadProgressFn& on_progress) {
  for (size_t at = 0; at < bytes.size(); at += kProgressBytes) {
    const auto piece = bytes.subspan(at, std::min<size_t>(kProgressBytes, bytes.size() - at));
    TC_RETURN_IF_ERROR(MakeResident(piece));
    report_.read_bytes += piece.size();
    TC_RETURN_IF_ERROR(on_progress(report_.read_bytes, report_.owned_bytes));
  }
  return OkStatus();
}

Status Shard::Pack(const WeightKey& key, const model::TensorInfo& info,
                   const model::RangeReader& reader, kernels::Device& device,
                   const LoadProgressFn& on_progress) {
  const TensorView mapped = MappedView(info, reader.Mapping());
  TC_ASSIGN_OR_RETURN(Buffer copy, device.Allocate(mapped.bytes() + kernels::kLanesSlackBytes));
  TensorView packed = TensorView::Dense(copy.data(), mapped.dtype, mapped.n_rows, mapped.n_cols);
  packed.layout = device.PreferredLayout(mapped.dtype);
  const int64_t row_bytes = mapped.row_stride_bytes;
  const int64_t piece_rows =
      std::max<int64_t>(1, static_cast<int64_t>(kProgressBytes) / std::max<int64_t>(1, row_bytes));
  for (int64_t row = 0; row < mapped.n_rows; row += piece_rows) {
    const int64_t n_rows = std::min(piece_rows, mapped.n_rows - row);
    const auto n_bytes = static_cast<size_t>(n_rows * row_bytes);
    TC_RETURN_IF_ERROR(ReadBytes({mapped.row(row), n_bytes}, on_progress));
    device.Pack(mapped.Rows(row, n_rows), packed.Rows(row, n_rows));
    reader.Evict(info.offset_bytes + static_cast<uint64_t>(row * row_bytes), n_bytes);
  }
  copies_.push_back(std::move(copy));
  views_[key] = packed;
  return OkStatus();
}

Status Shard::Relay(int layer, TensorView mapped, kernels::Device& device) {
  const DType dtype = RelaidType(mapped.dtype);
  const uint64_t n_bytes =
      RowBytes(dtype, static_cast<uint64_t>(mapped.n_rows)) * static_cast<uint64_t>(mapped.n_cols);
  TC_ASSIGN_OR_RETURN(Buffer copy, device.Allocate(n_bytes));
  const TensorView rows = TensorView::Dense(copy.data(), dtype, mapped.n_cols, mapped.n_rows);
  kernels::TransposeToRows(mapped, rows);
  copies_.push_back(std::move(copy));
  views_[WeightKey{layer, WeightRole::kFfnDownT}] = rows;
  return OkStatus();
}

TensorView Shard::View(const WeightKey& key) const {
  const auto found = views_.find(key);
  return found == views_.end() ? TensorView{} : found->second;
}

}  // namespace thermocline::worker
