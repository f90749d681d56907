// The operators on a GPU: each sizes its launches, finds memory for what lives within it, and
// enqueues. Contracts are those of kernels/ops.h. Quantised weights are in the layout that the
// device packs (kernels/lanes.h) and meet activations rounded to 8 bits, as on CPUs; float weights
// are in the file's layout.
#pragma once

#include <span>
#include <vector>

#include "kernels/cuda/kernel_table.h"
#include "kernels/cuda/scratch.h"
#include "kernels/cuda/sequence_lists.h"
#include "kernels/cuda/step_recorder.h"
#include "kernels/cuda/upload_ring.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace thermocline::kernels::cuda {

// Owned by the device. Thread-compatible. Bytes of neurons' rows are counted by the device and
// appear in traffic() when a mark behind them has been waited for; with more tokens than a kernel
// takes at once they are those of the first ones.
class CudaOps final : public Ops {
 public:
  // `scratch` is the device's memory, kMinScratchBytes of it for models of any width.
  CudaOps(WorkQueue& queue, Scratch scratch)
      : queue_(queue),
        kernels_(queue.runtime().kernels()),
        stream_(queue.runtime().stream()),
        uploads_(queue),
        recorder_(queue, uploads_, traffic_),
        scratch_(scratch) {}

  void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) override;
  void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) override;
  void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps,
                 TensorView y) override;
  void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) override;
  void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
            TensorView x) override;
  void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
               const KvPages& pages) override;
  void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
                 float scale, TensorView y) override;
  void Add(TensorView a, TensorView b, TensorView y) override;
  void Copy(TensorView x, TensorView y) override;
  void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) override;
  void SelectActive(TensorView a, ActiveIds active) override;
  void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) override;
  void ZeroBelow(TensorView a, float threshold) override;
  void SelectBest(TensorView logits, int k, TensorView best) override;
  void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
               const NeuronNeeds& needs, TensorView a) override;
  void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                TensorView y) override;
  void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) override;
  void AddSums(SumsView sums, SumsView part) override;
  void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) override;

  // As Device::Prepare.
  Status Prepare(const StepBounds& bounds);
  // Adds what the device has counted since.
  void FoldTraffic(const TrafficSums& sums);
  StepRecorder* recorder() { return &recorder_; }

 private:
  void Select(SelectJob job);
  // The operands and where the sums go are the job's.
  void Axpy(AxpyJob job);
  // Rows that can lie in scratch at once, rounded for packed weights; n_rows at most.
  int64_t RoundedAtOnce(const TensorView& x) const;
  // The rows of x rounded, in scratch.
  ByteRows Rounded(const TensorView& x);
  // Up to RoundedAtOnce tokens.
  void NeuronsOf(const NeuronWeights& weights, RowDotsJob job);
  // Where kernels find what an op takes from the host: in the ring, or in the place that it has in
  // every replay of the step being recorded. Null when there is no memory.
  template <typename T>
  const T* Upload(UploadKind kind, std::span<const T> items) {
    if (!recorder_.is_recording()) return uploads_.Upload(kind, items);
    return reinterpret_cast<const T*>(recorder_.Find(kind, std::as_bytes(items)));
  }
  // The longest context that attention is launched for.
  int64_t PositionsToSee(std::span<const SequenceRows> sequences) const;
  // The sequences with their pages in the device's memory; null when there is no memory.
  const SequenceSpan* UploadSequences(std::span<const SequenceRows> sequences);
  const double* UploadFrequencies(const RopeArgs& args);

  WorkQueue& queue_;
  const KernelTable& kernels_;
  void* const stream_;
  UploadRing uploads_;
  CudaStepRecorder recorder_;
  const Scratch scratch_;
  TrafficSums folded_;
  // What is uploaded, built here.
  SequenceLists lists_;
  std::vector<double> frequencies_;
  // Of these arguments are the frequencies.
  RopeArgs frequencies_of_;
  std::vector<float> divisors_;
};

}  // namespace thermocline::kernels::cuda
