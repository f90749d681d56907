// Makes the weights of a synthetic model, layer by layer, and writes them as they are made.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/device.h"
#include "model/gguf_writer.h"
#include "tools/progress_bar.h"
#include "tools/synth/layer_forward.h"
#include "tools/synth/random_matrix.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

// Borrows writer, pool, device and bar of the run; holds one layer's matrices at a time. One thread
// calls it; the work is shared by the pool and the device's threads. Equal options give equal bytes
// for any number of threads on one instruction set.
class Planter {
 public:
  struct Tools {
    model::GgufWriter& writer;
    ThreadPool& pool;
    kernels::Device& device;
    ProgressBar& bar;
  };
  // kInvalidArgument: a firing law that no power law meets; the codes of LayerForward::Create.
  static Result<std::unique_ptr<Planter>> Create(const SynthOptions& options, const Tools& tools);

  // Writes every tensor. kAborted by CheckInterrupted; the codes of GgufWriter::Put.
  Status WriteModel();
  // Mean share of neurons active for the calibration tokens, per layer.
  const std::vector<double>& calibrated_density() const { return density_; }

 private:
  struct Layer;

  Planter(const SynthOptions& options, const Tools& tools);
  // Parts of the model.
  Status WriteEmbedding();
  Status WritePositions();
  Status WriteHead();
  Status WriteLayer(int64_t index);
  Status WriteBiases(int64_t index);
  // Parts of a layer.
  void MakeAttention(Layer* layer);
  void MakeDecider(Layer* layer);
  void MakeLowRankDecider(Layer* layer);
  void MultiplyPredictor(Layer* layer, int64_t rank);
  void MakePredictor(Layer* layer, const EncodedMatrix& a, const EncodedMatrix& v);
  void PlantBiases(Layer* layer);
  void PlantPredictorBiases(Layer* layer);
  void MakeDown(Layer* layer);

  RandomMatrix Random(std::string_view tensor, int64_t n_rows, int64_t n_cols, double deviation);
  EncodedMatrix Encode(const RandomMatrix& matrix);
  Status Put(const std::string& name, std::span<const std::byte> bytes);
  Status PutZeros(const std::string& name, int64_t n);
  Status PutStreamed(const std::string& name, const RandomMatrix& matrix);

  const SynthOptions options_;
  const Tools tools_;
  std::unique_ptr<LayerForward> forward_;
  std::vector<int32_t> tokens_;    // that calibration runs over
  std::vector<double> quantiles_;  // NormalQuantile of 1 - p, p descending
  std::vector<double> density_;
};

}  // namespace thermocline::tools
