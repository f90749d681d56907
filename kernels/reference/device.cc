#include "kernels/device.h"

#include "kernels/host_device.h"
#include "kernels/lanes.h"
#include "kernels/reference/ops.h"

namespace thermocline::kernels {
namespace {

// Forwards every op to its reference function; counts no traffic. Thread-safe: it has no state.
class ReferenceOps final : public Ops {
 public:
  void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) override {
    reference::Embed(table, ids, y);
  }
  void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) override {
    reference::RmsNorm(x, weight, eps, y);
  }
  void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps,
                 TensorView y) override {
    reference::LayerNorm(x, weight, bias, eps, y);
  }
  void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) override {
    reference::MatMul(w, x, bias, y);
  }
  void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
            TensorView x) override {
    reference::Rope(args, positions, head_dim, x);
  }
  void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
               const KvPages& pages) override {
    reference::StoreKv(k, v, sequences, pages);
  }
  void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
                 float scale, TensorView y) override {
    reference::Attention(q, sequences, pages, scale, y);
  }
  void Add(TensorView a, TensorView b, TensorView y) override { reference::Add(a, b, y); }
  void Copy(TensorView x, TensorView y) override { reference::Copy(x, y); }
  void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) override {
    reference::Activate(kind, gate, up, y);
  }
  void SelectActive(TensorView a, ActiveIds active) override { reference::SelectActive(a, active); }
  void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) override {
    reference::SelectAtLeast(scores, threshold, active);
  }
  void SelectBest(TensorView logits, int k, TensorView best) override {
    reference::SelectBest(logits, k, best);
  }
  void ZeroBelow(TensorView a, float threshold) override { reference::ZeroBelow(a, threshold); }
  void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
               const NeuronNeeds& needs, TensorView a) override {
    reference::Neurons(weights, kind, x, active, needs, a);
  }
  void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                TensorView y) override {
    reference::AxpyRows(w, a, active, bias, y);
  }
  void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) override {
    reference::AxpySums(w, a, active, sums);
  }
  void AddSums(SumsView sums, SumsView part) override { reference::AddSums(sums, part); }
  void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) override {
    reference::RoundSums(sums, part, bias, y);
  }
};

// Host memory and scalar ops. Thread-compatible, owned by whoever checks something against it.
class ReferenceDevice final : public HostDevice {
 public:
  std::string name() const override { return "reference"; }
  Ops& ops() override { return ops_; }
  bool has_fp8_rows() const override { return true; }
  int64_t Pack(TensorView from, TensorView to) override {
    for (int64_t i = 0; i < from.n_rows; ++i) {
      if (!PackRow(from, i, to)) return i;
    }
    return -1;
  }

 private:
  ReferenceOps ops_;
};

}  // namespace

std::unique_ptr<Device> MakeReferenceDevice() { return std::make_unique<ReferenceDevice>(); }

}  // namespace thermocline::kernels
