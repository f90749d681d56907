// The weights one worker holds: matrices copied out of the mapped model file into huge pages, in
// the layout that the device's ops read fastest; lookup tables and vectors where they are mapped.
// On a device with memory of its own all of them are copied there.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/tensor_view.h"
#include "kernels/device.h"
#include "model/ffn_mode.h"
#include "model/graph.h"
#include "model/neuron_order.h"
#include "model/neuron_rows.h"
#include "model/range_reader.h"
#include "model/sparsity.h"
#include "model/weights.h"
#include "worker/weight_memory.h"

namespace thermocline::worker {

// Bytes loaded so far and in all; called from the loading thread every few MiB and while it waits.
// An error, kAborted by custom, ends the load.
using LoadProgressFn = std::function<Status(uint64_t bytes_done, uint64_t bytes_total)>;
// For those who load without anybody watching.
inline Status IgnoreProgress(uint64_t, uint64_t) { return OkStatus(); }

// What a model is and where its bytes are; all of it outlives who runs it.
struct ModelSource {
  const model::ModelConfig& config;
  const model::WeightIndex& weights;
  const model::RangeReader& reader;
  const model::RangeReader* predictor_reader = nullptr;  // of attached predictors
  const model::Sparsity* sparsity = nullptr;             // null: nothing is known
  const model::NeuronOrder* neuron_order = nullptr;      // null: the file's

  model::LayerSparsity LayerSparsityOf(int layer) const {
    return sparsity == nullptr ? model::LayerSparsity{}
                               : sparsity->layers[static_cast<size_t>(layer)];
  }
};

// The FFN modes that a stage's layers may run, and so what their weights must be; and which part of
// the layers is here.
struct FfnPlan {
  model::FfnModes modes = model::FfnMode::kDense;
  bool down_by_neuron = false;  // ffn_down as rows by neuron; implied by every mode but dense
  // Of a stage that several workers share: the neurons held here, by layer of the stage; no entry:
  // all of every layer.
  std::vector<model::NeuronRange> neurons;
  // How many other members hold some, by layer of the stage; of the lead.
  std::vector<int> n_helpers;
  // Whether their sums are added by a group of GPUs, by layer of the stage; no entry: by none.
  std::vector<bool> in_group;
  // Holds nothing but those neurons and heads and what computing them takes; another worker leads.
  bool is_helper = false;
  // What neurons' rows are held in; in 8 bits only where the device has such ops.
  model::NeuronRows rows = model::NeuronRows::kAsIs;
  // Of a stage whose members share the heads of attention too, the same in every layer.
  model::HeadShare heads;

  bool is_shared() const { return !neurons.empty(); }
  bool has_neuron_rows() const {
    return down_by_neuron || is_shared() || modes.needs_neuron_rows();
  }
  model::FfnShare ShareOf(int layer_in_stage) const {
    const auto i = static_cast<size_t>(layer_in_stage);
    if (!is_shared()) return {};
    return {.n_neurons = neurons[i].size(),
            .n_helpers = n_helpers.empty() ? 0 : n_helpers[i],
            .in_group = !in_group.empty() && in_group[i]};
  }
  bool has_helpers() const {
    return std::any_of(n_helpers.begin(), n_helpers.end(), [](int n) { return n > 0; });
  }
  // Whether a batch waits for others on links.
  bool waits() const { return has_helpers() || !heads.by_link.empty(); }
  bool has_predictors() const { return modes.Has(model::FfnMode::kPredicted); }
};

struct LoadReport {
  uint64_t owned_bytes = 0;  // of the file, as the plan counts them
  uint64_t read_bytes = 0;   // touched in the file
  uint64_t kept_bytes = 0;   // of memory: taken over from the shard before
  std::string note;          // what was re-laid, for the log; "" when nothing was
};

// Immutable once loaded. The reader must outlive it.
class Shard {
 public:
  // Loads the weights of `layers`, and touches no other page of the file. With neuron rows, a
  // file's ffn_down [n_embd, n_ff] is re-laid into rows per neuron (model::NeuronRowType); 16-bit
  // predictors are kept as Q8_0, and rows of neurons in 8 bits where `ffn` says so. kDataLoss or
  // kUnavailable when bytes cannot be read, kDataLoss when a weight that is re-encoded is not a
  // number, or too large, kUnavailable when the device is lost, kInvalidArgument when it has no ops
  // for rows of 8 bits, or a weight is too large for them, kResourceExhausted without memory for
  // copies, and what `on_progress` returns.
  //
  // `prior`: a shard of the same source for another plan, or null. Matrices whose rows are the same
  // are taken over where they lie; of the others the rows that stay are copied and only new ones
  // are read. Memory is handed back matrix by matrix, those that go or shrink first, so that it
  // exceeds the larger of the two shards by no more than one matrix. On a device with memory of its
  // own, which has no pages to move, that may not find room in one piece: then all of it is given
  // back and read again. `prior` is left empty.
  static Result<Shard> Load(const ModelSource& source, const model::LayerRange& layers,
                            const FfnPlan& ffn, kernels::Device& device,
                            const LoadProgressFn& on_progress, Shard* prior = nullptr);

  // Neurons stand in the source's order when the plan has neuron rows: rows of gate, up, down and
  // of the predictor's output alike, so that ids of active neurons are places. Of a shared stage
  // only the plan's neurons are there, the first at place 0, and only their rows are read; of an
  // ffn_down whose columns they are, the columns from the first of them to the last.

  // The view of a weight, empty when the model has none.
  TensorView View(const model::WeightKey& key) const;
  const LoadReport& report() const { return report_; }
  static constexpr int32_t kNotHeld = -1;
  // Where each neuron of the file stands here, or kNotHeld; empty: all, in the file's order.
  std::span<const int32_t> Places(int layer) const;

 private:
  static Result<Shard> LoadOver(const ModelSource& source, const model::LayerRange& layers,
                                const FfnPlan& ffn, kernels::Device& device,
                                const LoadProgressFn& on_progress, Shard* prior);
  // Where the rows of query, key and value go, in every layer.
  void PlaceHeads(const model::ModelConfig& config, const model::HeadShare& heads);
  // Where the neurons of each layer go.
  void PlaceNeurons(const ModelSource& source, const model::LayerRange& layers, const FfnPlan& ffn);
  // Bytes of the file that are held here, as the plan counts them.
  void CountOwned(const model::WeightIndex& weights, const model::LayerRange& layers,
                  const FfnPlan& ffn);
  // Weights of one file, whose keys they are.
  struct Part {
    std::vector<model::WeightKey> keys;
    const model::RangeReader& reader;
    bool is_of_predictors = false;
  };
  Status LoadPart(const Part& part, const model::WeightIndex& weights, const FfnPlan& ffn,
                  kernels::Device& device, const LoadProgressFn& on_progress);
  struct Shape {
    DType dtype = DType::kF32;
    int64_t n_rows = 0;
    int64_t n_cols = 0;
    bool is_vector = false;  // its columns are what a matrix has as rows
  };
  // Of a weight of `part` in memory.
  Shape ShapeOf(const model::WeightKey& key, const model::TensorInfo& info, const Part& part,
                const FfnPlan& ffn) const;
  // Has one region for all that will be copied, where the device has memory of its own.
  Status ReserveFor(std::span<const Part> parts, const model::WeightIndex& weights,
                    const FfnPlan& ffn, kernels::Device& device);
  // Whether a weight that is not streamed stays where it is mapped, or has its values placed there.
  bool IsUsedMapped(const model::WeightKey& key, const model::TensorInfo& info,
                    const kernels::Device& device) const;
  Status LoadDown(const model::WeightKey& key, const model::TensorInfo& info, const Part& part,
                  const FfnPlan& ffn, kernels::Device& device, const LoadProgressFn& on_progress);
  // What is looked up where it is mapped, or has a value per neuron.
  Status LoadMapped(const model::WeightKey& key, const model::TensorInfo& info,
                    const model::RangeReader& reader, kernels::Device& device,
                    const LoadProgressFn& on_progress);
  Status ReadBytes(std::span<const std::byte> bytes, const LoadProgressFn& on_progress);
  Status CountRead(uint64_t n_bytes, const LoadProgressFn& on_progress);

  // A matrix in memory and which of its rows are still to come.
  struct Target {
    TensorView view;
    // Of each row of the file: its place, or kNotHeld; empty: all, in the file's order.
    std::vector<int32_t> places;
    bool is_complete = false;
  };
  // The view of `key` from now on: the prior shard's as far as it has the rows.
  Result<Target> Prepare(const model::WeightKey& key, const Shape& shape, kernels::Device& device);
  // Copies the rows that the prior shard has, by way of the host where they are apart from it.
  Status TakeRows(const model::WeightKey& key, const TensorView& prior, kernels::Device& device,
                  Target* target);
  // Whether the rows of a weight stand here as they stood there, or its values.
  bool StandsAs(const Shard& prior, const model::WeightKey& key) const;
  // Of keys that are held: first those of which the prior shard has no fewer rows, then those of
  // which it has some.
  void SortByGrowth(std::vector<model::WeightKey>* keys, const model::WeightIndex& weights,
                    const FfnPlan& ffn) const;
  void DropAllBut(const std::vector<model::WeightKey>& wanted, Shard* prior);

  // Copies a matrix to the device's memory in the layout that its ops read fastest, piece by piece,
  // handing each piece of the file back.
  Status Pack(const model::TensorInfo& info, const Target& target, const model::RangeReader& reader,
              kernels::Device& device, const LoadProgressFn& on_progress);
  // Memory for a matrix that from now on is the view of `key`.
  Result<TensorView> Allocate(const model::WeightKey& key, const Shape& shape,
                              kernels::Device& device);
  // Rows of `from`, which are first_row and on of the matrix, to their places in `to`.
  static Status Place(TensorView from, int64_t first_row, TensorView to,
                      std::span<const int32_t> places, kernels::Device& device);
  // The same for rows of another type, by way of F32.
  static Status Reencode(TensorView from, int64_t first_row, TensorView to,
                         std::span<const int32_t> places, kernels::Device& device);
  static void PlaceVector(TensorView mapped, const Target& target, kernels::Device& device);
  // Of the neurons of a layer, or of the rows of its heads, those held here.
  int64_t HeldOf(const model::WeightKey& key, int64_t n_all) const;
  // Columns of the file's ffn_down, the first being `first`, to rows.
  static Status Relay(TensorView columns, int64_t first, const Target& target,
                      kernels::Device& device);
  // Of the rows of `key`, which are one layer's neurons, its heads' or neither; empty in the file's
  // order.
  std::span<const int32_t> PlacesFor(const model::WeightKey& key) const;

  std::map<model::WeightKey, TensorView> views_;
  WeightMemory memory_;     // of copies
  Shard* prior_ = nullptr;  // while loading
  // By layer: where each neuron of the file stands. No entry: all are there in the file's order.
  std::map<int, std::vector<int32_t>> places_;
  std::map<int, int64_t> n_held_;  // neurons, for layers with an entry above
  // The same of rows of heads, in all layers alike.
  std::vector<int32_t> query_places_, kv_places_;
  int64_t n_query_ = 0, n_kv_ = 0;  // rows held, of those
  bool ordered_ = false;            // by heat
  int n_narrowed_ = 0;              // matrices in 8 bits
  int n_relaid_ = 0;                // layers
  DType relaid_dtype_ = DType::kF32;
  LoadReport report_;
};

}  // namespace thermocline::worker
