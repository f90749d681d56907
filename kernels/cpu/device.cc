#include "kernels/device.h"

#include <atomic>
#include <utility>

#include "base/str.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/ops.h"
#include "kernels/host_device.h"
#include "kernels/lanes.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels {
namespace {

// Forwards every op to its CPU function with the device's pool and scratch. Thread-compatible.
class CpuOps final : public Ops {
 public:
  explicit CpuOps(cpu::CpuContext context) : context_(std::move(context)) {}

  void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) override {
    traffic_.CountWeights(table, static_cast<int64_t>(ids.size()));
    cpu::Embed(context_, table, ids, y);
  }
  void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) override {
    cpu::RmsNorm(context_, x, weight, eps, y);
  }
  void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps,
                 TensorView y) override {
    cpu::LayerNorm(context_, x, weight, bias, eps, y);
  }
  void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) override {
    traffic_.CountWeights(w, w.n_rows);
    cpu::MatMul(context_, w, x, bias, y);
  }
  void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
            TensorView x) override {
    cpu::Rope(context_, args, positions, head_dim, x);
  }
  void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
               const KvPages& pages) override {
    cpu::StoreKv(context_, k, v, sequences, pages);
  }
  void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
                 float scale, TensorView y) override {
    traffic_.CountAttention(sequences, pages);
    cpu::Attention(context_, q, sequences, pages, scale, y);
  }
  void Add(TensorView a, TensorView b, TensorView y) override { cpu::Add(context_, a, b, y); }
  void Copy(TensorView x, TensorView y) override { cpu::Copy(context_, x, y); }
  void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) override {
    cpu::Activate(context_, kind, gate, up, y);
  }
  void SelectActive(TensorView a, ActiveIds active) override {
    cpu::SelectActive(context_, a, active);
  }
  void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) override {
    cpu::SelectAtLeast(context_, scores, threshold, active);
    traffic_.CountNamed(scores, active);
  }
  // In host memory the sampler reads logits where they lie; nobody wants this to be fast.
  void SelectBest(TensorView logits, int k, TensorView best) override {
    reference::SelectBest(logits, k, best);
  }
  void ZeroBelow(TensorView a, float threshold) override { cpu::ZeroBelow(context_, a, threshold); }
  void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
               const NeuronNeeds& needs, TensorView a) override {
    const int64_t n_ups = cpu::Neurons(context_, weights, kind, x, active, needs, a);
    const bool reads_gate = needs.activations.empty() && !weights.gate.empty();
    traffic_.CountNeurons(weights, reads_gate ? active.count(weights.up.n_rows) : 0, n_ups);
  }
  void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                TensorView y) override {
    Axpy(w, a, active, {bias, y, {}});
  }
  void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) override {
    Axpy(w, a, active, {{}, {}, sums});
  }
  void AddSums(SumsView sums, SumsView part) override { cpu::AddSums(context_, sums, part); }
  void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) override {
    cpu::RoundSums(context_, sums, part, bias, y);
  }

  // Calls fn(begin, end) over parts of 0 .. n on the pool.
  template <typename Fn>
  void ForEachPart(int64_t n, int64_t min_items, Fn fn) {
    cpu::ForParts(context_, n, 1, min_items,
                  [&](int64_t begin, int64_t end, int) { fn(begin, end); });
  }

 private:
  void Axpy(TensorView w, TensorView a, ActiveIds active, const cpu::AxpyOutput& output) {
    const ActiveIds adding = cpu::WithoutZeros(context_, a, active);
    traffic_.CountAxpyRows(w, adding);
    cpu::AxpyRows(context_, w, a, adding, output);
  }

  cpu::CpuContext context_;
};

// Host memory, vector ops and the pool they run on. Thread-compatible, owned by a worker.
class CpuDevice final : public HostDevice {
 public:
  CpuDevice(std::unique_ptr<ThreadPool> pool, Buffer scratch)
      : pool_(std::move(pool)),
        ops_({.pool = pool_.get(),
              .scratch = std::move(scratch),
              .rope = {},
              .byte_rows = {},
              .neuron_ids = {},
              .axpy_factors = {},
              .adding_ids = {}}) {}

  std::string name() const override {
    return Str("cpu ", cpu::InstructionSetName(), " x", pool_->n_threads());
  }
  Ops& ops() override { return ops_; }
  RowLayout PreferredLayout(DType dtype) const override {
    return HasLanes(dtype) ? RowLayout::kLanes : RowLayout::kFile;
  }
  int64_t Pack(TensorView from, TensorView to) override {
    const auto row_bytes =
        static_cast<int64_t>(RowBytes(from.dtype, static_cast<uint64_t>(from.n_cols)));
    std::atomic<int64_t> first_bad = from.n_rows;
    ops_.ForEachPart(from.n_rows, cpu::MinItems(row_bytes), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        if (PackRow(from, i, to)) continue;
        int64_t least = first_bad;
        while (i < least && !first_bad.compare_exchange_weak(least, i)) {
        }
        return;
      }
    });
    return first_bad < from.n_rows ? first_bad.load() : -1;
  }

 private:
  std::unique_ptr<ThreadPool> pool_;
  CpuOps ops_;
};

}  // namespace

Result<std::unique_ptr<Device>> MakeCpuDevice(const CpuDeviceOptions& options) {
  TC_ASSIGN_OR_RETURN(
      std::unique_ptr<ThreadPool> pool,
      ThreadPool::Create({.n_threads = options.n_threads, .name = "ops", .cpus = options.cpus}));
  const uint64_t scratch_bytes =
      static_cast<uint64_t>(options.n_threads) * cpu::kScratchFloats * sizeof(float);
  TC_ASSIGN_OR_RETURN(Buffer scratch, Buffer::Allocate(scratch_bytes));
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(std::move(pool), std::move(scratch)));
}

}  // namespace thermocline::kernels
