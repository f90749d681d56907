#include "tests/support/apart_device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/str.h"
#include "base/units.h"
#include "tests/support/fake_gpu/fake_stream.h"

namespace thermocline::testing {
namespace {

using kernels::ActiveIds;
using kernels::KvPages;
using kernels::NeuronNeeds;
using kernels::NeuronWeights;
using kernels::RopeArgs;
using kernels::SequenceRows;
using kernels::SumsView;

constexpr uint64_t kAlignBytes = 256;  // as CUDA's
constexpr int kNaN = 0xFF;             // of every byte, in every float type

// One piece of memory at two places: at one of them nobody may touch it.
class Memory {
 public:
  explicit Memory(uint64_t n_bytes) : n_bytes_(n_bytes) {
    const int file = memfd_create("apart", 0);
    CHECK(file >= 0 && ftruncate(file, static_cast<off_t>(n_bytes)) == 0);
    hidden_ = Map(file, PROT_NONE);
    open_ = Map(file, PROT_READ | PROT_WRITE);
    close(file);
  }
  ~Memory() {
    munmap(hidden_, n_bytes_);
    munmap(open_, n_bytes_);
  }
  Memory(const Memory&) = delete;

  // Null when there is none. The first hole that is large enough; freed memory is used again.
  std::byte* Take(uint64_t n_bytes) {
    const uint64_t size = RoundUp(n_bytes, kAlignBytes);
    uint64_t begin = 0;
    for (const auto& [at, taken] : taken_) {
      if (at - begin >= size) break;
      begin = at + taken;
    }
    if (begin + size > n_bytes_) return nullptr;
    taken_[begin] = size;
    used_bytes_ += size;
    std::memset(open_ + begin, kNaN, n_bytes);
    return hidden_ + begin;
  }
  void Free(const std::byte* data) {
    const auto found = taken_.find(static_cast<uint64_t>(data - hidden_));
    CHECK(found != taken_.end());
    used_bytes_ -= found->second;
    taken_.erase(found);
  }
  bool Holds(const void* at) const {
    const auto* const data = static_cast<const std::byte*>(at);
    return hidden_ <= data && data < hidden_ + n_bytes_;
  }
  // Where ops and copies find what the device's address names.
  template <typename T>
  T* Open(T* at) const {
    if (at == nullptr) return nullptr;
    CHECK(Holds(at));
    return reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(at) +
                                static_cast<uintptr_t>(open_ - hidden_));
  }
  uint64_t used_bytes() const { return used_bytes_; }
  uint64_t n_bytes() const { return n_bytes_; }
  const std::byte* seen() const { return hidden_; }
  std::byte* open() const { return open_; }

 private:
  std::byte* Map(int file, int protection) const {
    void* const at = mmap(nullptr, n_bytes_, protection, MAP_SHARED, file, 0);
    CHECK(at != MAP_FAILED);
    return static_cast<std::byte*>(at);
  }

  const uint64_t n_bytes_;
  std::byte* hidden_ = nullptr;
  std::byte* open_ = nullptr;
  uint64_t used_bytes_ = 0;
  std::map<uint64_t, uint64_t> taken_;  // offset -> size
};

// What was asked of the device and has not been done.
class Queue {
 public:
  Queue(int64_t lost_after, void* stream)
      : lost_after_(lost_after), stream_(static_cast<FakeStream*>(stream)) {}

  void Add(std::function<void()> work) {
    ++n_added_;
    if (stream_ == nullptr) return pending_.push_back(std::move(work));
    stream_->Add([this, work = std::move(work)] {
      work();
      ++n_streamed_;
      n_streamed_.notify_all();
    });
  }
  uint64_t n_added() const { return n_added_; }
  uint64_t n_done() const {
    return stream_ == nullptr ? n_added_ - pending_.size() : n_streamed_.load();
  }
  bool is_lost() const {
    return lost_after_ >= 0 && n_done() >= static_cast<uint64_t>(lost_after_);
  }
  void RunOne() {
    if (pending_.empty() || is_lost()) return;
    auto work = std::move(pending_.front());
    pending_.pop_front();
    work();
  }
  void RunTo(uint64_t mark) {
    while (stream_ == nullptr && n_done() < mark && !is_lost()) RunOne();
    for (uint64_t n = n_done(); n < mark && stream_ != nullptr; n = n_done()) n_streamed_.wait(n);
  }

 private:
  const int64_t lost_after_;
  FakeStream* const stream_;
  std::atomic<uint64_t> n_streamed_ = 0;
  std::deque<std::function<void()>> pending_;
  uint64_t n_added_ = 0;
};

// Takes a copy of what is in host memory and queues the op, with the places of its views opened.
class ApartOps final : public kernels::Ops {
 public:
  ApartOps(const Memory& memory, Queue* queue, kernels::Ops* ops)
      : memory_(memory), queue_(queue), ops_(ops) {}

  void Embed(TensorView table, std::span<const int32_t> ids, TensorView y) override {
    queue_->Add([=, this, list = std::vector(ids.begin(), ids.end())] {
      ops_->Embed(At(table), list, At(y));
    });
  }
  void RmsNorm(TensorView x, TensorView weight, float eps, TensorView y) override {
    queue_->Add([=, this] { ops_->RmsNorm(At(x), At(weight), eps, At(y)); });
  }
  void LayerNorm(TensorView x, TensorView weight, TensorView bias, float eps,
                 TensorView y) override {
    queue_->Add([=, this] { ops_->LayerNorm(At(x), At(weight), At(bias), eps, At(y)); });
  }
  void MatMul(TensorView w, TensorView x, TensorView bias, TensorView y) override {
    queue_->Add([=, this] { ops_->MatMul(At(w), At(x), At(bias), At(y)); });
  }
  void Rope(const RopeArgs& args, std::span<const int64_t> positions, int head_dim,
            TensorView x) override {
    queue_->Add([=, this, list = std::vector(positions.begin(), positions.end()),
                 divisors = std::vector(args.freq_divisors.begin(), args.freq_divisors.end())] {
      RopeArgs copied = args;
      copied.freq_divisors = divisors;
      ops_->Rope(copied, list, head_dim, At(x));
    });
  }
  void StoreKv(TensorView k, TensorView v, std::span<const SequenceRows> sequences,
               const KvPages& pages) override {
    queue_->Add([=, this, rows = Sequences(sequences)] {
      ops_->StoreKv(At(k), At(v), rows.Views(), At(pages));
    });
  }
  void Attention(TensorView q, std::span<const SequenceRows> sequences, const KvPages& pages,
                 float scale, TensorView y) override {
    queue_->Add([=, this, rows = Sequences(sequences)] {
      ops_->Attention(At(q), rows.Views(), At(pages), scale, At(y));
    });
  }
  void Add(TensorView a, TensorView b, TensorView y) override {
    queue_->Add([=, this] { ops_->Add(At(a), At(b), At(y)); });
  }
  void Copy(TensorView x, TensorView y) override {
    queue_->Add([=, this] { ops_->Copy(At(x), At(y)); });
  }
  void Activate(kernels::Activation kind, TensorView gate, TensorView up, TensorView y) override {
    queue_->Add([=, this] { ops_->Activate(kind, At(gate), At(up), At(y)); });
  }
  void SelectActive(TensorView a, ActiveIds active) override {
    queue_->Add([=, this] { ops_->SelectActive(At(a), At(active)); });
  }
  void SelectAtLeast(TensorView scores, float threshold, ActiveIds active) override {
    queue_->Add([=, this] { ops_->SelectAtLeast(At(scores), threshold, At(active)); });
  }
  void SelectBest(TensorView logits, int k, TensorView best) override {
    queue_->Add([=, this] { ops_->SelectBest(At(logits), k, At(best)); });
  }
  void ZeroBelow(TensorView a, float threshold) override {
    queue_->Add([=, this] { ops_->ZeroBelow(At(a), threshold); });
  }
  void Neurons(const NeuronWeights& weights, kernels::Activation kind, TensorView x,
               ActiveIds active, const NeuronNeeds& needs, TensorView a) override {
    queue_->Add([=, this] {
      NeuronWeights opened = weights;
      for (TensorView* view : {&opened.gate, &opened.gate_bias, &opened.up, &opened.up_bias}) {
        *view = At(*view);
      }
      NeuronNeeds opened_needs = needs;
      opened_needs.activations = At(needs.activations);
      opened_needs.scores = At(needs.scores);
      ops_->Neurons(opened, kind, At(x), At(active), opened_needs, At(a));
    });
  }
  void AxpyRows(TensorView w, TensorView a, ActiveIds active, TensorView bias,
                TensorView y) override {
    queue_->Add([=, this] { ops_->AxpyRows(At(w), At(a), At(active), At(bias), At(y)); });
  }
  void AxpySums(TensorView w, TensorView a, ActiveIds active, SumsView sums) override {
    queue_->Add([=, this] { ops_->AxpySums(At(w), At(a), At(active), At(sums)); });
  }
  void AddSums(SumsView sums, SumsView part) override {
    queue_->Add([=, this] { ops_->AddSums(At(sums), At(part)); });
  }
  void RoundSums(SumsView sums, SumsView part, TensorView bias, TensorView y) override {
    queue_->Add([=, this] { ops_->RoundSums(At(sums), At(part), At(bias), At(y)); });
  }

 private:
  // Sequences with their page tables, kept until they are used.
  struct Sequences {
    explicit Sequences(std::span<const SequenceRows> sequences)
        : rows(sequences.begin(), sequences.end()) {
      for (const SequenceRows& one : sequences) {
        pages.emplace_back(one.page_ids.begin(), one.page_ids.end());
      }
    }
    std::vector<SequenceRows> Views() const {
      std::vector<SequenceRows> views = rows;
      for (size_t i = 0; i < views.size(); ++i) views[i].page_ids = pages[i];
      return views;
    }
    std::vector<SequenceRows> rows;
    std::vector<std::vector<int32_t>> pages;
  };

  TensorView At(TensorView view) const {
    view.data = memory_.Open(view.data);
    return view;
  }
  ActiveIds At(ActiveIds active) const {
    active.ids = memory_.Open(active.ids);
    active.n_active = memory_.Open(active.n_active);
    return active;
  }
  SumsView At(SumsView sums) const {
    sums.data = memory_.Open(sums.data);
    return sums;
  }
  KvPages At(KvPages pages) const {
    pages.k = memory_.Open(pages.k);
    pages.v = memory_.Open(pages.v);
    return pages;
  }

  const Memory& memory_;
  Queue* queue_;
  kernels::Ops* ops_;
};

class ApartDevice final : public kernels::Device {
 public:
  explicit ApartDevice(const ApartOptions& options)
      : memory_(options.memory_bytes),
        stream_(options.stream),
        on_memory_(options.on_memory),
        queue_(options.lost_after, options.stream),
        host_(options.is_reference
                  ? kernels::MakeReferenceDevice()
                  : std::move(kernels::MakeCpuDevice({options.n_threads, {}})).value()),
        ops_(memory_, &queue_, &host_->ops()) {
    if (on_memory_) on_memory_(memory_.seen(), memory_.open(), memory_.n_bytes());
  }
  ~ApartDevice() override {
    if (stream_ != nullptr) queue_.RunTo(queue_.n_added());
    if (on_memory_) on_memory_(memory_.seen(), nullptr, 0);
  }

  std::string name() const override { return "apart " + host_->name(); }
  kernels::Ops& ops() override { return ops_; }

  Result<Buffer> Allocate(uint64_t n_bytes) override {
    if (n_bytes == 0) return Buffer();
    std::byte* const data = memory_.Take(n_bytes);
    if (data == nullptr) {
      return ResourceExhausted(Str("no memory on the device:", Kv("bytes", n_bytes)));
    }
    return Buffer::Adopt(
        data, n_bytes,
        [](void* owner, std::byte* at, uint64_t) { static_cast<Memory*>(owner)->Free(at); },
        &memory_);
  }
  Result<Buffer> AllocateHost(uint64_t n_bytes) override { return Buffer::Allocate(n_bytes); }
  kernels::DeviceMemory memory() const override {
    return {memory_.n_bytes() - memory_.used_bytes(), memory_.n_bytes()};
  }

  void CopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    if (n_bytes == 0) return;
    CHECK(!memory_.Holds(host));
    queue_.Add([=, this] { std::memcpy(memory_.Open(device), host, n_bytes); });
  }
  void CopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    if (n_bytes == 0) return;
    CHECK(!memory_.Holds(host));
    queue_.Add([=, this] { std::memcpy(host, memory_.Open(device), n_bytes); });
  }
  void CopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) override {
    queue_.Add([=, this] { std::memcpy(memory_.Open(to), memory_.Open(from), n_bytes); });
  }
  Status Prepare(const kernels::StepBounds&) override { return OkStatus(); }
  kernels::WorkMark Mark() override { return queue_.n_added(); }
  bool IsDone(kernels::WorkMark mark) override {
    if (queue_.n_done() < mark) queue_.RunOne();
    return queue_.n_done() >= mark || queue_.is_lost();
  }
  Status Wait(kernels::WorkMark mark) override {
    queue_.RunTo(mark);
    if (queue_.is_lost()) return Unavailable(Str(name(), " is lost: as the test wants"));
    return OkStatus();
  }

  RowLayout PreferredLayout(DType dtype) const override { return host_->PreferredLayout(dtype); }
  bool has_fp8_rows() const override { return host_->has_fp8_rows(); }
  int64_t Pack(TensorView from, TensorView to) override {
    queue_.RunTo(queue_.n_added());
    CHECK(!memory_.Holds(from.data));
    to.data = memory_.Open(to.data);
    return host_->Pack(from, to);
  }
  bool reads_host_memory() const override { return false; }
  void* stream() const override { return stream_; }

 private:
  Memory memory_;
  void* const stream_;
  const std::function<void(const std::byte*, std::byte*, uint64_t)> on_memory_;
  Queue queue_;
  const std::unique_ptr<kernels::Device> host_;
  ApartOps ops_;
};

}  // namespace

std::unique_ptr<kernels::Device> MakeApartDevice(const ApartOptions& options) {
  return std::make_unique<ApartDevice>(options);
}

}  // namespace thermocline::testing
