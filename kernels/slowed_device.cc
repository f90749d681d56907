// A slower machine, made of this one.
#include <utility>

#include "base/clock.h"
#include "kernels/device.h"

namespace thermocline::kernels {
namespace {

// Runs each op on another Ops and then waits, busily as an op would, until it has taken `slowdown`
// times as long. Thread-compatible, as what it slows.
class SlowedOps final : public Ops {
 public:
  SlowedOps(Ops& ops, double slowdown) : ops_(ops), slowdown_(slowdown) {}

  void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) override {
    Slowly([&] { ops_.Embed(table, ids, y); });
  }
  void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) override {
    Slowly([&] { ops_.RmsNorm(x, weight, eps, y); });
  }
  void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps,
                 TensorView y) override {
    Slowly([&] { ops_.LayerNorm(x, weight, bias, eps, y); });
  }
  void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) override {
    Slowly([&] { ops_.MatMul(w, x, bias, y); });
  }
  void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
            TensorView x) override {
    Slowly([&] { ops_.Rope(args, positions, head_dim, x); });
  }
  void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
               const KvPages& pages) override {
    Slowly([&] { ops_.StoreKv(k, v, sequences, pages); });
  }
  void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
                 float scale, TensorView y) override {
    Slowly([&] { ops_.Attention(q, sequences, pages, scale, y); });
  }
  void Add(TensorView a, TensorView b, TensorView y) override {
    Slowly([&] { ops_.Add(a, b, y); });
  }
  void Copy(TensorView x, TensorView y) override {
    Slowly([&] { ops_.Copy(x, y); });
  }
  void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) override {
    Slowly([&] { ops_.Activate(kind, gate, up, y); });
  }
  void SelectActive(TensorView a, ActiveIds active) override {
    Slowly([&] { ops_.SelectActive(a, active); });
  }
  void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) override {
    Slowly([&] { ops_.SelectAtLeast(scores, threshold, active); });
  }
  void SelectBest(TensorView logits, int k, TensorView best) override {
    Slowly([&] { ops_.SelectBest(logits, k, best); });
  }
  void ZeroBelow(TensorView a, float threshold) override {
    Slowly([&] { ops_.ZeroBelow(a, threshold); });
  }
  void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
               const NeuronNeeds& needs, TensorView a) override {
    Slowly([&] { ops_.Neurons(weights, kind, x, active, needs, a); });
  }
  void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                TensorView y) override {
    Slowly([&] { ops_.AxpyRows(w, a, active, bias, y); });
  }
  void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) override {
    Slowly([&] { ops_.AxpySums(w, a, active, sums); });
  }
  void AddSums(SumsView sums, SumsView part) override {
    Slowly([&] { ops_.AddSums(sums, part); });
  }
  void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) override {
    Slowly([&] { ops_.RoundSums(sums, part, bias, y); });
  }

 private:
  template <typename Op>
  void Slowly(Op op) {
    const TimePoint begin = clock_.Now();
    op();
    const Duration took = clock_.Now() - begin;
    traffic_.Take(ops_.traffic());
    const TimePoint end = begin + std::chrono::duration_cast<Duration>(slowdown_ * took);
    while (clock_.Now() < end) {
    }
  }

  Ops& ops_;
  const double slowdown_;
  const SteadyClock clock_;
};

// Owns the device that it slows. Thread-compatible.
class SlowedDevice final : public Device {
 public:
  SlowedDevice(std::unique_ptr<Device> device, double slowdown)
      : device_(std::move(device)), ops_(device_->ops(), slowdown) {}

  std::string name() const override { return device_->name() + " slowed down"; }
  Ops& ops() override { return ops_; }
  Result<Buffer> Allocate(uint64_t n_bytes) override { return device_->Allocate(n_bytes); }
  Result<Buffer> AllocateHost(uint64_t n_bytes) override { return device_->AllocateHost(n_bytes); }
  DeviceMemory memory() const override { return device_->memory(); }
  void CopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    device_->CopyToDevice(host, device, n_bytes);
  }
  void CopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    device_->CopyToHost(device, host, n_bytes);
  }
  void CopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) override {
    device_->CopyWithin(from, to, n_bytes);
  }
  Status Prepare(const StepBounds& bounds) override { return device_->Prepare(bounds); }
  WorkMark Mark() override { return device_->Mark(); }
  bool IsDone(WorkMark mark) override { return device_->IsDone(mark); }
  Status Wait(WorkMark mark) override { return device_->Wait(mark); }
  RowLayout PreferredLayout(DType dtype) const override { return device_->PreferredLayout(dtype); }
  bool has_fp8_rows() const override { return device_->has_fp8_rows(); }
  int64_t Pack(TensorView from, TensorView to) override { return device_->Pack(from, to); }
  bool reads_host_memory() const override { return device_->reads_host_memory(); }
  void* stream() const override { return device_->stream(); }

 private:
  const std::unique_ptr<Device> device_;
  SlowedOps ops_;
};

}  // namespace

std::unique_ptr<Device> SlowDown(std::unique_ptr<Device> device, double slowdown) {
  return std::make_unique<SlowedDevice>(std::move(device), slowdown);
}

}  // namespace thermocline::kernels
