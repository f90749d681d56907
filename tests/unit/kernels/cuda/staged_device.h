// Runs ops of a device with memory of its own on tensors of the host, so that the same tests serve
// all devices: each op's operands are copied there, its results back.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/lanes.h"

namespace thermocline::kernels {

// The operands of one op in the device's memory. Views of the same data become the same.
class StagedOperands {
 public:
  explicit StagedOperands(Device& device) : device_(device) {}
  // Waits for the op and copies back what it wrote.
  ~StagedOperands() {
    for (const Copy& copy : copies_) {
      if (copy.is_output) device_.CopyToHost(copy.device, copy.host, copy.n_bytes);
    }
    const Status status = device_.Synchronize();
    EXPECT_TRUE(status.ok()) << status;
  }
  StagedOperands(const StagedOperands&) = delete;
  StagedOperands& operator=(const StagedOperands&) = delete;

  std::byte* Bytes(std::byte* host, uint64_t n_bytes, bool is_output, uint64_t slack = 0) {
    for (Copy& copy : copies_) {
      if (copy.host != host) continue;
      copy.is_output |= is_output;
      return copy.device;
    }
    auto buffer = device_.Allocate(n_bytes + slack + 1);
    EXPECT_TRUE(buffer.ok()) << buffer.status();
    buffers_.push_back(std::move(buffer).value());
    copies_.push_back({host, buffers_.back().data(), n_bytes, is_output});
    device_.CopyToDevice(host, copies_.back().device, n_bytes);
    return copies_.back().device;
  }
  TensorView In(TensorView view) { return View(view, false); }
  TensorView Out(TensorView view) { return View(view, true); }
  ActiveIds In(ActiveIds active) { return Active(active, false); }
  ActiveIds Out(ActiveIds active) { return Active(active, true); }
  SumsView Out(SumsView sums) {
    if (sums.empty()) return sums;
    sums.data = reinterpret_cast<double*>(
        Bytes(reinterpret_cast<std::byte*>(sums.data), sums.bytes(), true));
    return sums;
  }
  KvPages Pages(KvPages pages, std::span<const SequenceRows> sequences, bool is_output) {
    int32_t n_pages = 0;
    for (const SequenceRows& rows : sequences) {
      for (const int32_t id : rows.page_ids) n_pages = std::max(n_pages, id + 1);
    }
    const uint64_t n_bytes = pages.page_bytes() * static_cast<uint64_t>(n_pages);
    pages.k = Bytes(pages.k, n_bytes, is_output);
    pages.v = Bytes(pages.v, n_bytes, is_output);
    return pages;
  }

 private:
  struct Copy {
    std::byte* host;
    std::byte* device;
    uint64_t n_bytes;
    bool is_output;
  };

  TensorView View(TensorView view, bool is_output) {
    if (view.empty()) return view;
    const uint64_t row_bytes = RowBytes(view.dtype, static_cast<uint64_t>(view.n_cols));
    const uint64_t n_bytes =
        view.n_rows == 0
            ? 0
            : static_cast<uint64_t>((view.n_rows - 1) * view.row_stride_bytes) + row_bytes;
    const uint64_t slack = view.layout == RowLayout::kLanes ? kLanesSlackBytes : 0;
    view.data = Bytes(view.data, n_bytes, is_output, slack);
    return view;
  }
  ActiveIds Active(ActiveIds active, bool is_output) {
    if (active.all()) return active;
    active.ids =
        reinterpret_cast<int32_t*>(Bytes(reinterpret_cast<std::byte*>(active.ids),
                                         4 * static_cast<uint64_t>(active.capacity), is_output));
    active.n_active = reinterpret_cast<int32_t*>(
        Bytes(reinterpret_cast<std::byte*>(active.n_active), 4, is_output));
    return active;
  }

  Device& device_;
  std::vector<Buffer> buffers_;
  std::vector<Copy> copies_;
};

// Thread-compatible, as the device whose ops they call.
class StagedOps final : public Ops {
 public:
  explicit StagedOps(Device& device) : device_(device) {}

  void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().Embed(at.In(table), ids, at.Out(y));
  }
  void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().RmsNorm(at.In(x), at.In(weight), eps, at.Out(y));
  }
  void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps,
                 TensorView y) override {
    StagedOperands at(device_);
    device_.ops().LayerNorm(at.In(x), at.In(weight), at.In(bias), eps, at.Out(y));
  }
  void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().MatMul(at.In(w), at.In(x), at.In(bias), at.Out(y));
  }
  void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
            TensorView x) override {
    StagedOperands at(device_);
    device_.ops().Rope(args, positions, head_dim, at.Out(x));
  }
  void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
               const KvPages& pages) override {
    StagedOperands at(device_);
    device_.ops().StoreKv(at.In(k), at.In(v), sequences, at.Pages(pages, sequences, true));
  }
  void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
                 float scale, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().Attention(at.In(q), sequences, at.Pages(pages, sequences, false), scale,
                            at.Out(y));
  }
  void Add(TensorView a, TensorView b, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().Add(at.In(a), at.In(b), at.Out(y));
  }
  void Copy(TensorView x, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().Copy(at.In(x), at.Out(y));
  }
  void Activate(Activation kind, TensorView gate, TensorView up, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().Activate(kind, at.In(gate), at.In(up), at.Out(y));
  }
  void SelectActive(TensorView a, ActiveIds active) override {
    StagedOperands at(device_);
    device_.ops().SelectActive(at.In(a), at.Out(active));
  }
  void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) override {
    StagedOperands at(device_);
    device_.ops().SelectAtLeast(at.In(scores), threshold, at.Out(active));
  }
  void SelectBest(TensorView logits, int k, TensorView best) override {
    StagedOperands at(device_);
    device_.ops().SelectBest(at.In(logits), k, at.Out(best));
  }
  void ZeroBelow(TensorView a, float threshold) override {
    StagedOperands at(device_);
    device_.ops().ZeroBelow(at.Out(a), threshold);
  }
  void Neurons(const NeuronWeights& weights, Activation kind, TensorView x, ActiveIds active,
               const NeuronNeeds& needs, TensorView a) override {
    StagedOperands at(device_);
    NeuronWeights there = weights;
    there.gate = at.In(weights.gate), there.gate_bias = at.In(weights.gate_bias);
    there.up = at.In(weights.up), there.up_bias = at.In(weights.up_bias);
    NeuronNeeds needed = needs;
    needed.activations = at.In(needs.activations), needed.scores = at.In(needs.scores);
    device_.ops().Neurons(there, kind, at.In(x), at.In(active), needed, at.Out(a));
  }
  void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                TensorView y) override {
    StagedOperands at(device_);
    device_.ops().AxpyRows(at.In(w), at.In(a), at.In(active), at.In(bias), at.Out(y));
  }
  void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) override {
    StagedOperands at(device_);
    device_.ops().AxpySums(at.In(w), at.In(a), at.In(active), at.Out(sums));
  }
  void AddSums(SumsView sums, SumsView part) override {
    StagedOperands at(device_);
    device_.ops().AddSums(at.Out(sums), at.Out(part));
  }
  void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) override {
    StagedOperands at(device_);
    device_.ops().RoundSums(at.Out(sums), at.Out(part), at.In(bias), at.Out(y));
  }

 private:
  Device& device_;
};

// A device and the ops that stage; owned by a test.
struct StagedDevice {
  std::unique_ptr<Device> device;
  StagedOps ops{*device};
};

}  // namespace thermocline::kernels
