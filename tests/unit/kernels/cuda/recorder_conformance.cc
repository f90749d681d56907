// Steps that a device records and replays: to the bits of the same ops called one by one.
#include <vector>

#include "conformance_operands.h"
#include "device_conformance.h"
#include "kernels/step_recorder.h"

namespace thermocline::kernels {
namespace {

constexpr int64_t kTable = 700, kCols = 64;
constexpr int kHeadDim = 32, kHeads = 2, kPageTokens = 16;
constexpr int64_t kMostRows = 3, kPositions = 700;
constexpr int64_t kPagesEach = (kPositions + kPageTokens - 1) / kPageTokens;

// One token of some sequences, at positions of their own.
struct Batch {
  std::vector<int32_t> tokens, position_ids;
  std::vector<int64_t> positions;
  std::vector<std::vector<int32_t>> pages;
  std::vector<SequenceRows> sequences;

  // Sequence i of the batch is number i of those that the pages were filled for.
  Batch(const std::vector<int64_t>& at, int32_t seed) {
    for (size_t i = 0; i < at.size(); ++i) {
      tokens.push_back((seed + static_cast<int32_t>(i) * 37) % static_cast<int32_t>(kTable));
      position_ids.push_back(static_cast<int32_t>(at[i] * 3 % kTable));
      positions.push_back(at[i]);
      const auto n_pages = static_cast<size_t>(at[i] / kPageTokens + 1);
      auto& list = pages.emplace_back(n_pages);
      for (size_t p = 0; p < n_pages; ++p) list[p] = PageOf(i, p);
    }
    for (size_t i = 0; i < at.size(); ++i) {
      sequences.push_back({static_cast<int>(i), 1, at[i], pages[i]});
    }
  }
  StepArguments arguments() const { return {tokens, position_ids, positions, sequences}; }
  // Pages of the sequences alternate.
  static int32_t PageOf(size_t sequence, size_t page) {
    return static_cast<int32_t>(page * kMostRows + sequence);
  }
};

// A step of one layer in the memory of a device: everything that takes something from the host.
class TinyStep {
 public:
  explicit TinyStep(Device& device) : device_(device), ops_(device.ops()) {
    EXPECT_TRUE(device.Prepare({.max_rows = 64, .max_pages = 1000, .head_dim = kHeadDim}).ok());
    table_ = Upload(RandomWeights(DType::kF32, kTable, kCols, 1));
    w_ = Upload(RandomWeights(DType::kQ8_0, kCols, kCols, 2).Packed());
    for (Buffer* buffer : {&x_, &y_, &p_}) *buffer = Memory(kMostRows * kCols * sizeof(float));
    const KvPages shape = {nullptr, nullptr, DType::kF16, kPageTokens, kHeads, kHeadDim};
    k_ = Memory(shape.page_bytes() * kMostRows * kPagesEach);
    v_ = Memory(shape.page_bytes() * kMostRows * kPagesEach);
    pages_ = shape;
    pages_.k = k_.data(), pages_.v = v_.data();
    FillPages();
  }

  void Run(const StepArguments& in) {
    const auto n_rows = static_cast<int64_t>(in.tokens.size());
    const TensorView x = Rows(x_, n_rows), y = Rows(y_, n_rows), p = Rows(p_, n_rows);
    RopeArgs rope;
    rope.n_rot = kHeadDim;
    ops_.Embed(Table(), in.tokens, x);
    ops_.Embed(Table(), in.position_ids, p);
    ops_.Add(x, p, x);
    ops_.Rope(rope, in.positions, kHeadDim, x);
    ops_.StoreKv(x, p, in.sequences, pages_);
    ops_.Attention(x, in.sequences, pages_, 0.2f, y);
    TensorView w = TensorView::Dense(w_.data(), DType::kQ8_0, kCols, kCols);
    w.layout = device_.PreferredLayout(DType::kQ8_0);
    ops_.MatMul(w, y, {}, p);
  }

  std::vector<float> Result(int64_t n_rows) {
    std::vector<float> back(static_cast<size_t>(n_rows * kCols));
    device_.CopyToHost(p_.data(), reinterpret_cast<std::byte*>(back.data()),
                       back.size() * sizeof(float));
    EXPECT_TRUE(device_.Synchronize().ok());
    return back;
  }
  std::vector<float> Eager(const Batch& batch) {
    Run(batch.arguments());
    return Result(static_cast<int64_t>(batch.tokens.size()));
  }
  Recording Record(const Batch& batch, int64_t n_positions) {
    EXPECT_TRUE(device_.recorder()->Begin(batch.arguments(), n_positions).ok());
    Run(batch.arguments());
    const auto recording = device_.recorder()->End(1000);
    EXPECT_TRUE(recording.ok()) << recording.status();
    return recording.ok() ? *recording : Recording{};
  }
  std::vector<float> Replayed(const Recording& recording, const Batch& batch) {
    device_.recorder()->Replay(recording.id, batch.arguments());
    return Result(static_cast<int64_t>(batch.tokens.size()));
  }

 private:
  Buffer Memory(uint64_t n_bytes) {
    auto memory = device_.Allocate(n_bytes);
    EXPECT_TRUE(memory.ok()) << memory.status();
    return std::move(memory).value();
  }
  Buffer Upload(const Tensor& tensor) {
    Buffer memory = Memory(tensor.view().bytes() + kLanesSlackBytes);
    device_.CopyToDevice(tensor.view().data, memory.data(), tensor.view().bytes());
    EXPECT_TRUE(device_.Synchronize().ok());
    return memory;
  }
  static TensorView Rows(const Buffer& buffer, int64_t n_rows) {
    return TensorView::F32(reinterpret_cast<float*>(buffer.data()), n_rows, kCols);
  }
  TensorView Table() const { return TensorView::Dense(table_.data(), DType::kF32, kTable, kCols); }

  // All positions of all sequences, so that too long a look at one shows.
  void FillPages() {
    std::vector<int32_t> ids(static_cast<size_t>(kPagesEach));
    for (size_t sequence = 0; sequence < kMostRows; ++sequence) {
      for (size_t page = 0; page < ids.size(); ++page) ids[page] = Batch::PageOf(sequence, page);
      const std::vector<SequenceRows> rows = {{0, static_cast<int>(kPositions), 0, ids}};
      const TensorView values = TensorView::Dense(table_.data(), DType::kF32, kPositions, kCols);
      ops_.StoreKv(values, values, rows, pages_);
    }
    EXPECT_TRUE(device_.Synchronize().ok());
  }

  Device& device_;
  Ops& ops_;
  Buffer table_, w_, x_, y_, p_, k_, v_;
  KvPages pages_;
};

TEST_P(DeviceConformanceTest, AReplayHasTheBitsOfItsOps) {
  TinyStep step(device());
  for (const int64_t n_positions : {int64_t{512}, int64_t{2048}}) {
    const Recording recording = step.Record(Batch({3, 40, 255}, 5), n_positions);
    EXPECT_GT(recording.n_launches, 7);
    for (const auto& at : std::vector<std::vector<int64_t>>{
             {3, 40, 255}, {0, 0, 0}, {256, 16, 511}, {500, 1, 257}, {31, 32, 33}}) {
      const Batch batch(at, static_cast<int32_t>(at.front()) + 11);
      const std::vector<float> wanted = step.Eager(batch);
      EXPECT_EQ(step.Replayed(recording, batch), wanted) << at.front();
    }
    const Batch other({100, 200, 300}, 9);  // behind ops that were not recorded
    EXPECT_EQ(step.Replayed(recording, other), step.Eager(other));
  }
  const Recording longer = step.Record(Batch({600}, 5), 2048);
  const Batch batch({699}, 8);
  EXPECT_EQ(step.Replayed(longer, batch), step.Eager(batch));
}

TEST_P(DeviceConformanceTest, ReplaysFollowEachOtherWithoutAWait) {
  TinyStep step(device());
  const Recording recording = step.Record(Batch({3, 4}, 1), 512);
  const Batch first({100, 200}, 7), second({300, 20}, 8);
  (void)step.Eager(first);  // whose keys the second sees
  const std::vector<float> wanted = step.Eager(second);
  device().recorder()->Replay(recording.id, first.arguments());
  EXPECT_EQ(step.Replayed(recording, second), wanted);
}

TEST_P(DeviceConformanceTest, WhatIsRecordedHasNotRun) {
  TinyStep step(device());
  const Batch before({3, 4}, 1), recorded({9, 10}, 2);
  const std::vector<float> wanted = step.Eager(before);
  const Traffic traffic = device().ops().traffic();
  const Recording recording = step.Record(recorded, 512);
  EXPECT_EQ(step.Result(2), wanted);
  EXPECT_EQ(device().ops().traffic().weight_bytes, traffic.weight_bytes);
  EXPECT_EQ(device().ops().traffic().kv_bytes, traffic.kv_bytes);
  device().recorder()->Drop(recording.id);
}

TEST_P(DeviceConformanceTest, AReplayReadsAsMuchAsItsOps) {
  TinyStep step(device());
  const Recording recording = step.Record(Batch({3, 4}, 1), 512);
  const Batch batch({100, 300}, 7);
  const Traffic before = device().ops().traffic();
  (void)step.Eager(batch);
  const Traffic eager = device().ops().traffic() - before;
  (void)step.Replayed(recording, batch);
  const Traffic replayed = device().ops().traffic() - before - eager;
  EXPECT_GT(eager.kv_bytes, 0u);
  EXPECT_EQ(replayed.weight_bytes, eager.weight_bytes);
  EXPECT_EQ(replayed.kv_bytes, eager.kv_bytes);
}

TEST_P(DeviceConformanceTest, ARecordingThatIsTooLargeIsNotKept) {
  TinyStep step(device());
  const Batch batch({3, 4}, 1);
  ASSERT_TRUE(device().recorder()->Begin(batch.arguments(), 512).ok());
  step.Run(batch.arguments());
  EXPECT_EQ(device().recorder()->End(3).status().code(), StatusCode::kResourceExhausted);
  const std::vector<float> wanted = step.Eager(batch);  // the device goes on
  EXPECT_EQ(step.Replayed(step.Record(batch, 512), batch), wanted);
}

TEST_P(DeviceConformanceTest, WhatIsNoArgumentIsNotRecorded) {
  TinyStep step(device());
  const Batch batch({3, 4}, 1), other({3, 5}, 1);
  ASSERT_TRUE(device().recorder()->Begin(batch.arguments(), 512).ok());
  step.Run(other.arguments());
  EXPECT_EQ(device().recorder()->End(1000).status().code(), StatusCode::kInternal);
  std::vector<int64_t> many(StepRecorder::kMaxRows + 1);
  StepArguments too_many;
  too_many.positions = many;
  EXPECT_EQ(device().recorder()->Begin(too_many, 512).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(device().Synchronize().ok());
}

}  // namespace
}  // namespace thermocline::kernels
