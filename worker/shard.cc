#include "worker/shard.h"

#include <algorithm>

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

Result<Shard> Shard::Load(const model::WeightIndex& weights, const model::RangeReader& reader,
                          const model::LayerRange& layers, const model::FfnOptions& ffn,
                          kernels::Device& device, const LoadProgressFn& on_progress) {
  const auto mapping = reader.Mapping();
  if (mapping.empty()) {
    return Unavailable(Str("weights must lie in a mappable file: ", reader.name()));
  }
  if (!device.reads_host_memory()) {
    return Unavailable(Str("this device cannot use weights in host memory: ", device.name()));
  }
  Shard shard;
  shard.report_.owned_bytes = weights.BytesOf(layers);
  int n_relaid = 0;
  DType relaid_dtype = DType::kF32;
  for (const WeightKey& key : weights.KeysOf(layers)) {
    const model::TensorInfo& info = *weights.Find(key.role, key.layer);
    const auto bytes = mapping.subspan(info.offset_bytes, info.size_bytes);
    const TensorView mapped = MappedView(info, mapping);
    if (ffn.down_by_neuron && key.role == WeightRole::kFfnDown) {
      TC_RETURN_IF_ERROR(shard.ReadBytes(bytes, on_progress).WithContext(info.name));
      TC_RETURN_IF_ERROR(shard.Relay(key.layer, mapped, device).WithContext(info.name));
      reader.Evict(info.offset_bytes, info.size_bytes);
      relaid_dtype = RelaidType(info.dtype);
      ++n_relaid;
    } else if (IsStreamed(key, weights)) {
      const auto evict = [&](uint64_t begin, uint64_t n_bytes) {
        reader.Evict(info.offset_bytes + begin, n_bytes);
      };
      TC_RETURN_IF_ERROR(
          shard.Pack(key, mapped, device, evict, on_progress).WithContext(info.name));
    } else {
      TC_RETURN_IF_ERROR(shard.ReadBytes(bytes, on_progress).WithContext(info.name));
      shard.views_[key] = mapped;
    }
  }
  if (n_relaid > 0) {
    shard.report_.note = Str("ffn_down of ", n_relaid, " layers re-laid to ",
                             DTypeName(relaid_dtype), " neuron rows");
  }
  return shard;
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

Status Shard::Pack(const WeightKey& key, TensorView mapped, kernels::Device& device,
                   const EvictFn& evict, const LoadProgressFn& on_progress) {
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
    evict(static_cast<uint64_t>(row * row_bytes), n_bytes);
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
