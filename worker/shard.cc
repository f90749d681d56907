#include "worker/shard.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "base/str.h"
#include "worker/column_reader.h"
#include "worker/held_weights.h"
#include "worker/residency.h"

namespace thermocline::worker {
namespace {

using model::WeightKey;
using model::WeightRole;

// Between two progress reports: a few ms of disk reading.
constexpr size_t kProgressBytes = 8 << 20;

// Values re-encoded at a time, as F32: 1 MiB, an L2 cache.
constexpr int64_t kChunkElems = 256 * 1024;

Status NotFinite(int64_t row) {
  return DataLoss(Str("a weight is infinite or not a number:", Kv("row", row)));
}

// Of row `i` of `from`, which Device::Pack refused; in the file, or by neuron, it is `row`.
Status NotPacked(const TensorView& from, int64_t i, int64_t row, DType to) {
  if (!kernels::IsFiniteRow(from.dtype, from.row(i), from.n_cols)) return NotFinite(row);
  const std::string too_large = Str("a weight is too large for ", DTypeName(to));
  if (!IsFp8(to)) return DataLoss(Str(too_large, ":", Kv("row", row)));
  return InvalidArgument(Str(too_large, ", --gpu-rows as-is holds it:", Kv("row", row)));
}

TensorView MappedView(const model::TensorInfo& info, std::span<const std::byte> mapping) {
  // Weights are never written: views are mutable only because activations share the type.
  auto* data = const_cast<std::byte*>(mapping.data() + info.offset_bytes);
  return TensorView::Dense(data, info.dtype, info.n_rows(), info.n_cols());
}

// Matrices that a step reads row after row. A token embedding is looked up, a row per token, unless
// it is the head too, and so are learned positions; vectors are a row each. They stay where they
// are mapped.
bool IsStreamed(const WeightKey& key, const model::WeightIndex& weights) {
  if (weights.Find(key.role, key.layer)->n_rows() <= 1) return false;
  if (key.role == WeightRole::kPositionEmbd) return false;
  return key.role != WeightRole::kTokenEmbd || weights.Find(WeightRole::kOutput) == nullptr;
}

bool IsOfQuery(WeightRole role) {
  return role == WeightRole::kAttnQ || role == WeightRole::kAttnQBias;
}

// Why no matrix of an FFN, of those held, has its rows in 8 bits where that was asked for.
std::string_view WhyNoneIsNarrow(const model::WeightIndex& weights,
                                 std::span<const WeightKey> held) {
  bool has_neurons = false;
  for (const auto& [layer, role] : held) {
    const bool is_of_neurons = role == WeightRole::kFfnGate || role == WeightRole::kFfnUp ||
                               role == WeightRole::kFfnDown || role == WeightRole::kFfnDownT;
    if (!is_of_neurons) continue;
    has_neurons = true;
    if (!IsFloat(weights.Find(role, layer)->dtype)) continue;
    return "32 does not divide both sides of the matrices";
  }
  return has_neurons ? "those of quantised types would not be smaller" : "no neurons are held here";
}

std::span<const std::byte> BytesOf(const model::TensorInfo& info,
                                   const model::RangeReader& reader) {
  return reader.Mapping().subspan(info.offset_bytes, info.size_bytes);
}

}  // namespace

Result<Shard> Shard::Load(const ModelSource& source, const model::LayerRange& layers,
                          const FfnPlan& ffn, kernels::Device& device,
                          const LoadProgressFn& on_progress, Shard* prior) {
  auto shard = LoadOver(source, layers, ffn, device, on_progress, prior);
  const bool has_holes = prior != nullptr && !device.reads_host_memory() &&
                         shard.status().code() == StatusCode::kResourceExhausted;
  if (!has_holes) return shard;
  *prior = Shard();  // its memory went with the attempt
  TC_ASSIGN_OR_RETURN(Shard again, LoadOver(source, layers, ffn, device, on_progress, nullptr));
  again.report_.note += Str(again.report_.note.empty() ? "" : ", ",
                            "read again: no room beside the weights of the plan before");
  return again;
}

Result<Shard> Shard::LoadOver(const ModelSource& source, const model::LayerRange& layers,
                              const FfnPlan& ffn, kernels::Device& device,
                              const LoadProgressFn& on_progress, Shard* prior) {
  const model::WeightIndex& weights = source.weights;
  if (ffn.rows != model::NeuronRows::kAsIs && !device.has_fp8_rows()) {
    return InvalidArgument(Str(device.name(), " does not compute with neuron rows of 8 bits:",
                               Kv("rows", model::NeuronRowsName(ffn.rows))));
  }
  if (source.reader.Mapping().empty()) {
    return Unavailable(Str("weights must lie in a mappable file: ", source.reader.name()));
  }
  Shard shard;
  shard.PlaceNeurons(source, layers, ffn);
  if (ffn.heads.is_shared()) shard.PlaceHeads(source.config, ffn.heads);
  shard.CountOwned(weights, layers, ffn);
  std::vector<Part> parts = {{weights.KeysOf(layers), source.reader}};
  if (ffn.has_predictors()) {
    const bool apart = weights.has_attached_predictors();
    CHECK(!apart || source.predictor_reader != nullptr);
    parts.push_back(
        {weights.PredictorKeysOf(layers), apart ? *source.predictor_reader : source.reader, true});
  }
  std::vector<WeightKey> wanted;
  for (Part& part : parts) {
    std::erase_if(part.keys, [&](const WeightKey& key) { return !IsHeld(key, layers, ffn); });
    for (const WeightKey& key : part.keys) wanted.push_back(KeyInMemory(key, ffn));
  }
  if (prior != nullptr) {
    shard.memory_ = std::move(prior->memory_);
    shard.DropAllBut(wanted, prior);
    shard.prior_ = prior;
  }
  if (prior == nullptr || prior->views_.empty()) {
    TC_RETURN_IF_ERROR(shard.ReserveFor(parts, weights, ffn, device));
  }
  for (Part& part : parts) {
    shard.SortByGrowth(&part.keys, weights, ffn);
    TC_RETURN_IF_ERROR(shard.LoadPart(part, weights, ffn, device, on_progress));
  }
  if (prior != nullptr) {
    std::vector<TensorView> views;
    for (const auto& [key, view] : shard.views_) views.push_back(view);
    shard.memory_.KeepOnly(views);
    *prior = Shard();
    shard.prior_ = nullptr;
  }
  if (shard.n_relaid_ > 0) {
    shard.report_.note = Str("ffn_down of ", shard.n_relaid_, " layers re-laid to ",
                             DTypeName(shard.relaid_dtype_), " neuron rows");
  }
  if (shard.n_narrowed_ > 0) {
    shard.report_.note += Str(shard.report_.note.empty() ? "" : ", ", "rows of ", shard.n_narrowed_,
                              " FFN matrices in 8 bits (", model::NeuronRowsName(ffn.rows), ")");
  } else if (ffn.rows != model::NeuronRows::kAsIs) {
    shard.report_.note += Str(shard.report_.note.empty() ? "" : ", ",
                              "no rows in 8 bits: ", WhyNoneIsNarrow(weights, parts.front().keys));
  }
  if (shard.ordered_) {
    shard.report_.note += Str(shard.report_.note.empty() ? "" : ", ", "neurons in heat order");
  }
  return shard;
}

Shard::Shape Shard::ShapeOf(const WeightKey& key, const model::TensorInfo& info, const Part& part,
                            const FfnPlan& ffn) const {
  const WeightKey held = KeyInMemory(key, ffn);
  if (info.n_rows() <= 1 && !PlacesFor(key).empty()) {
    return {info.dtype, info.n_rows(), HeldOf(key, info.n_cols()), true};
  }
  if (part.is_of_predictors) {
    return {model::MemoryType(key.role, info), HeldOf(key, info.n_rows()), info.n_cols()};
  }
  const model::HeldWeight all =
      model::HeldIn(ffn.rows, key.role, model::HeldAs(key.role, info, held != key));
  return {all.dtype, HeldOf(held, all.n_rows), all.n_cols};
}

Status Shard::ReserveFor(std::span<const Part> parts, const model::WeightIndex& weights,
                         const FfnPlan& ffn, kernels::Device& device) {
  uint64_t n_bytes = 0;
  for (const Part& part : parts) {
    for (const WeightKey& key : part.keys) {
      const Shape shape = ShapeOf(key, *weights.Find(key.role, key.layer), part, ffn);
      n_bytes +=
          WeightMemory::TakenBytes(static_cast<uint64_t>(shape.n_rows) *
                                   RowBytes(shape.dtype, static_cast<uint64_t>(shape.n_cols)));
    }
  }
  return memory_.Reserve(n_bytes, device);
}

// A vector with a value per neuron is put in order on the host. The divisors of rope angles stay
// there: ops take them as an argument.
bool Shard::IsUsedMapped(const WeightKey& key, const model::TensorInfo& info,
                         const kernels::Device& device) const {
  return device.reads_host_memory() || key.role == WeightRole::kRopeFreqs ||
         (info.n_rows() <= 1 && !PlacesFor(key).empty());
}

Status Shard::LoadPart(const Part& part, const model::WeightIndex& weights, const FfnPlan& ffn,
                       kernels::Device& device, const LoadProgressFn& on_progress) {
  if (part.reader.Mapping().empty()) {
    return Unavailable(Str("predictors must lie in a mappable file: ", part.reader.name()));
  }
  for (const WeightKey& key : part.keys) {
    const model::TensorInfo& info = *weights.Find(key.role, key.layer);
    Status loaded;
    if (KeyInMemory(key, ffn) != key) {
      loaded = LoadDown(key, info, part, ffn, device, on_progress);
    } else if (!part.is_of_predictors && !IsStreamed(key, weights) &&
               IsUsedMapped(key, info, device)) {
      loaded = LoadMapped(key, info, part.reader, device, on_progress);
    } else {
      const Shape shape = ShapeOf(key, info, part, ffn);
      if (IsFp8(shape.dtype)) ++n_narrowed_;
      TC_ASSIGN_OR_RETURN(const Target target, Prepare(key, shape, device));
      loaded = Pack(info, target, part.reader, device, on_progress);
    }
    TC_RETURN_IF_ERROR(loaded.WithContext(info.name));
  }
  return OkStatus();
}

Status Shard::LoadDown(const WeightKey& key, const model::TensorInfo& info, const Part& part,
                       const FfnPlan& ffn, kernels::Device& device,
                       const LoadProgressFn& on_progress) {
  const Shape shape = ShapeOf(key, info, part, ffn);
  relaid_dtype_ = shape.dtype;
  if (IsFp8(shape.dtype)) ++n_narrowed_;
  ++n_relaid_;
  TC_ASSIGN_OR_RETURN(const Target target, Prepare(KeyInMemory(key, ffn), shape, device));
  if (target.is_complete) return OkStatus();
  ColumnReader columns(info, part.reader);
  const auto on_read = [&](uint64_t n_bytes) { return CountRead(n_bytes, on_progress); };
  const ColumnRange wanted = ColumnsOf(target.places, info.n_cols());
  TC_RETURN_IF_ERROR(columns.Prefetch(wanted, on_read));
  for (ColumnRange range = columns.First(wanted); range.size() > 0;
       range = columns.Next(range, wanted)) {
    TC_ASSIGN_OR_RETURN(const TensorView read, columns.Read(range));
    TC_RETURN_IF_ERROR(Relay(read, range.begin, target, device));
  }
  return OkStatus();
}

Status Shard::LoadMapped(const WeightKey& key, const model::TensorInfo& info,
                         const model::RangeReader& reader, kernels::Device& device,
                         const LoadProgressFn& on_progress) {
  const TensorView mapped = MappedView(info, reader.Mapping());
  const bool is_placed = !PlacesFor(key).empty();
  if (!is_placed && prior_ != nullptr && prior_->View(key).data == mapped.data) {
    views_[key] = mapped;
    report_.kept_bytes += info.size_bytes;
    return OkStatus();
  }
  Target target;
  if (is_placed) {
    const Shape shape{mapped.dtype, mapped.n_rows, HeldOf(key, mapped.n_cols), true};
    TC_ASSIGN_OR_RETURN(target, Prepare(key, shape, device));
    if (target.is_complete) return OkStatus();
  }
  TC_RETURN_IF_ERROR(ReadBytes(BytesOf(info, reader), on_progress));
  for (int64_t i = 0; i < mapped.n_rows; ++i) {
    if (!kernels::IsFiniteRow(mapped.dtype, mapped.row(i), mapped.n_cols)) return NotFinite(i);
  }
  if (is_placed) {
    PlaceVector(mapped, target, device);
  } else {
    views_[key] = mapped;
  }
  return OkStatus();
}

void Shard::PlaceNeurons(const ModelSource& source, const model::LayerRange& layers,
                         const FfnPlan& ffn) {
  if (!ffn.has_neuron_rows()) return;
  for (int layer = layers.begin; layer < layers.end; ++layer) {
    std::span<const int32_t> order;
    if (source.neuron_order != nullptr) order = source.neuron_order->Of(layer);
    if (order.empty() && !ffn.is_shared()) continue;
    ordered_ |= !order.empty();
    std::vector<int32_t> places(static_cast<size_t>(source.config.n_ff));
    std::iota(places.begin(), places.end(), 0);
    if (!order.empty()) places = model::PlacesOf(order);
    n_held_[layer] = source.config.n_ff;
    if (ffn.is_shared()) {
      const model::NeuronRange& held = ffn.neurons[static_cast<size_t>(layer - layers.begin)];
      for (int32_t& place : places) {
        const bool is_held = held.begin <= place && place < held.end;
        place = is_held ? static_cast<int32_t>(place - held.begin) : kNotHeld;
      }
      n_held_[layer] = held.size();
    }
    places_[layer] = std::move(places);
  }
}

void Shard::PlaceHeads(const model::ModelConfig& config, const model::HeadShare& heads) {
  const auto place = [&](int64_t head_rows, std::vector<int32_t>* places) {
    const int64_t begin = heads.own.begin * head_rows, end = heads.own.end * head_rows;
    places->assign(static_cast<size_t>(config.n_head_kv * head_rows), kNotHeld);
    std::iota(places->begin() + begin, places->begin() + end, 0);
    return end - begin;
  };
  n_kv_ = place(config.head_dim, &kv_places_);
  n_query_ = place(config.n_embd_q() / config.n_head_kv, &query_places_);
}

void Shard::CountOwned(const model::WeightIndex& weights, const model::LayerRange& layers,
                       const FfnPlan& ffn) {
  const auto count = [&](const WeightKey& key) {
    if (!IsHeld(key, layers, ffn)) return;
    const uint64_t bytes = weights.Find(key.role, key.layer)->size_bytes;
    if (ffn.heads.is_shared() && model::IsPerHead(key.role)) {
      const auto n_all = static_cast<uint64_t>(PlacesFor(key).size());
      report_.owned_bytes += bytes / n_all * static_cast<uint64_t>(HeldOf(key, 0));
      return;
    }
    if (!ffn.is_shared() || !model::IsPerNeuron(key.role)) {
      report_.owned_bytes += bytes;
      return;
    }
    const auto n_ff = static_cast<uint64_t>(places_.at(key.layer).size());
    report_.owned_bytes += bytes / n_ff * static_cast<uint64_t>(n_held_.at(key.layer));
  };
  for (const WeightKey& key : weights.KeysOf(layers)) count(key);
  if (!ffn.has_predictors()) return;
  for (const WeightKey& key : weights.PredictorKeysOf(layers)) count(key);
}

int64_t Shard::HeldOf(const WeightKey& key, int64_t n_all) const {
  if (model::IsPerHead(key.role) && !query_places_.empty()) {
    return IsOfQuery(key.role) ? n_query_ : n_kv_;
  }
  const auto found = n_held_.find(key.layer);
  return found == n_held_.end() || !model::IsPerNeuron(key.role) ? n_all : found->second;
}

Status Shard::ReadBytes(std::span<const std::byte> bytes, const LoadProgressFn& on_progress) {
  for (size_t at = 0; at < bytes.size(); at += kProgressBytes) {
    const auto piece = bytes.subspan(at, std::min<size_t>(kProgressBytes, bytes.size() - at));
    TC_RETURN_IF_ERROR(MakeResident(piece));
    TC_RETURN_IF_ERROR(CountRead(piece.size(), on_progress));
  }
  return OkStatus();
}

Status Shard::CountRead(uint64_t n_bytes, const LoadProgressFn& on_progress) {
  report_.read_bytes += n_bytes;
  const uint64_t done = report_.read_bytes + report_.kept_bytes;
  return on_progress(std::min(done, report_.owned_bytes), report_.owned_bytes);
}

Status Shard::Pack(const model::TensorInfo& info, const Target& target,
                   const model::RangeReader& reader, kernels::Device& device,
                   const LoadProgressFn& on_progress) {
  if (target.is_complete) return OkStatus();
  const TensorView mapped = MappedView(info, reader.Mapping());
  const int64_t row_bytes = mapped.row_stride_bytes;
  const int64_t most_rows =
      std::max<int64_t>(1, static_cast<int64_t>(kProgressBytes) / std::max<int64_t>(1, row_bytes));
  const auto is_missing = [&](int64_t row) {
    return target.places.empty() || target.places[static_cast<size_t>(row)] != kNotHeld;
  };
  uint64_t kept_from = 0;  // of the tensor's bytes: those before are handed back
  for (int64_t row = 0; row < mapped.n_rows;) {
    int64_t n_rows = 0;  // of the next piece: rows that are missing and follow one another
    while (n_rows < most_rows && row + n_rows < mapped.n_rows && is_missing(row + n_rows)) ++n_rows;
    if (n_rows == 0) {
      ++row;
      continue;
    }
    const auto n_bytes = static_cast<size_t>(n_rows * row_bytes);
    TC_RETURN_IF_ERROR(ReadBytes({mapped.row(row), n_bytes}, on_progress));
    const TensorView from = mapped.Rows(row, n_rows);
    TC_RETURN_IF_ERROR(target.view.dtype == mapped.dtype
                           ? Place(from, row, target.view, target.places, device)
                           : Reencode(from, row, target.view, target.places, device));
    row += n_rows;
    // Single rows share their pages with neighbours, so what goes is everything behind.
    const auto read_to = static_cast<uint64_t>(row * row_bytes);
    if (read_to - kept_from < kProgressBytes) continue;
    reader.Evict(info.offset_bytes + kept_from, read_to - kept_from);
    kept_from = read_to;
  }
  reader.Evict(info.offset_bytes, info.size_bytes);
  return OkStatus();
}

Status Shard::Place(TensorView from, int64_t first_row, TensorView to,
                    std::span<const int32_t> places, kernels::Device& device) {
  if (places.empty()) {
    const int64_t bad_row = device.Pack(from, to.Rows(first_row, from.n_rows));
    return bad_row < 0 ? OkStatus() : NotPacked(from, bad_row, first_row + bad_row, to.dtype);
  }
  for (int64_t i = 0; i < from.n_rows; ++i) {
    const int64_t place = places[static_cast<size_t>(first_row + i)];
    if (place == kNotHeld) continue;
    if (device.Pack(from.Rows(i, 1), to.Rows(place, 1)) >= 0) {
      return NotPacked(from, i, first_row + i, to.dtype);
    }
  }
  return OkStatus();
}

Status Shard::Reencode(TensorView from, int64_t first_row, TensorView to,
                       std::span<const int32_t> places, kernels::Device& device) {
  const int64_t chunk_rows = std::max<int64_t>(1, kChunkElems / from.n_cols);
  std::vector<float> memory(static_cast<size_t>(std::min(chunk_rows, from.n_rows) * from.n_cols));
  for (int64_t row = 0; row < from.n_rows; row += chunk_rows) {
    const int64_t n_rows = std::min(chunk_rows, from.n_rows - row);
    const TensorView floats = TensorView::F32(memory.data(), n_rows, from.n_cols);
    for (int64_t i = 0; i < n_rows; ++i) kernels::DequantizeRow(from, row + i, floats.f32_row(i));
    TC_RETURN_IF_ERROR(Place(floats, first_row + row, to, places, device));
  }
  return OkStatus();
}

void Shard::PlaceVector(TensorView mapped, const Target& target, kernels::Device& device) {
  std::vector<float> memory(device.reads_host_memory() ? 0
                                                       : static_cast<size_t>(target.view.n_cols));
  float* const placed = memory.empty() ? target.view.f32_row(0) : memory.data();
  for (int64_t i = 0; i < mapped.n_cols; ++i) {
    const int32_t place = target.places[static_cast<size_t>(i)];
    if (place != kNotHeld) placed[place] = mapped.f32_row(0)[i];
  }
  if (!memory.empty()) device.Pack(TensorView::F32(placed, 1, target.view.n_cols), target.view);
}

std::span<const int32_t> Shard::PlacesFor(const WeightKey& key) const {
  if (model::IsPerHead(key.role)) return IsOfQuery(key.role) ? query_places_ : kv_places_;
  return model::IsPerNeuron(key.role) ? Places(key.layer) : std::span<const int32_t>();
}

Status Shard::Relay(TensorView columns, int64_t first, const Target& target,
                    kernels::Device& device) {
  for (int64_t i = 0; i < columns.n_rows; ++i) {
    if (!kernels::IsFiniteRow(columns.dtype, columns.row(i), columns.n_cols)) {
      return NotFinite(i);
    }
  }
  if (IsFloat(target.view.dtype) && target.places.empty() && device.reads_host_memory()) {
    kernels::TransposeToRows(columns, target.view.Rows(first, columns.n_cols));
    return OkStatus();
  }
  const bool keeps_type = IsFloat(columns.dtype) && columns.dtype == target.view.dtype;
  const DType between = keeps_type ? columns.dtype : DType::kF32;
  std::vector<std::byte> memory(
      RowBytes(between, static_cast<uint64_t>(kColumnUnit * columns.n_rows)));
  for (int64_t at = 0; at < columns.n_cols; at += kColumnUnit) {
    const int64_t n = std::min(kColumnUnit, columns.n_cols - at);
    const TensorView part = TensorView::Dense(memory.data(), between, n, columns.n_rows);
    kernels::TransposeToRows(columns.Cols(at, n), part);
    TC_RETURN_IF_ERROR(Place(part, first + at, target.view, target.places, device));
  }
  return OkStatus();
}

TensorView Shard::View(const WeightKey& key) const {
  const auto found = views_.find(key);
  return found == views_.end() ? TensorView{} : found->second;
}

}  // namespace thermocline::worker
