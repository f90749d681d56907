// A step allocates nothing once its widest batch was seen. A program of its own, since it counts
// every operator new.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/assignment.h"
#include "worker/stage.h"

namespace {

std::atomic<int64_t> n_allocations = 0;

void* Counted(size_t n_bytes) {
  ++n_allocations;
  void* const memory = std::malloc(n_bytes == 0 ? 1 : n_bytes);
  if (memory == nullptr) std::abort();
  return memory;
}

void* CountedAligned(size_t n_bytes, std::align_val_t align) {
  ++n_allocations;
  const auto unit = static_cast<size_t>(align);
  void* const memory = std::aligned_alloc(unit, (n_bytes + unit - 1) / unit * unit);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

// The other forms of the standard library call these.
void* operator new(size_t n_bytes) { return Counted(n_bytes); }
void* operator new[](size_t n_bytes) { return Counted(n_bytes); }
void* operator new(size_t n_bytes, std::align_val_t align) {
  return CountedAligned(n_bytes, align);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::FfnModes;
using testing::GgufDialect;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

constexpr int kSequences = 3;
constexpr int kPrompt = 12;     // tokens of each
constexpr int kWarmSteps = 16;  // in which a stage tries each of three modes three times
constexpr int kSteps = 40;      // that are counted: further than a page of keys and values goes

// Counts what each kind of op allocates.
class AllocationCounter final : public OpObserver {
 public:
  void OnRun() override { before_ = n_allocations; }
  void OnOp(const LoweredOp& op, TensorView, TensorView) override {
    const int64_t n = n_allocations - before_;
    total_ += n;
    counts_[static_cast<size_t>(op.kind)] += n;
    before_ = n_allocations;
  }
  void Reset() { *this = {}; }
  int64_t total() const { return total_; }
  std::string Text() const {
    std::string text;
    for (size_t kind = 0; kind < counts_.size(); ++kind) {
      if (counts_[kind] == 0) continue;
      text += " op " + std::to_string(kind) + ": " + std::to_string(counts_[kind]);
    }
    return text;
  }

 private:
  int64_t before_ = 0, total_ = 0;
  std::array<int64_t, 32> counts_ = {};
};

// One token of every sequence, or the prompts at position 0.
proto::StepBatch BatchAt(int64_t position) {
  proto::StepBatch batch;
  for (int s = 0; s < kSequences; ++s) {
    proto::StepEntry entry;
    entry.seq = SeqId{static_cast<uint64_t>(s + 1)};
    entry.first_position = position;
    const int n_tokens = position == 0 ? kPrompt : 1;
    for (int i = 0; i < n_tokens; ++i) {
      entry.tokens.push_back(static_cast<int32_t>((position * 31 + s * 7 + i * 13) % 280));
    }
    entry.sample = true;
    if (position == 0) entry.start = proto::SequenceStart{model::SamplingParams{}, kPrompt};
    batch.entries.push_back(std::move(entry));
  }
  return batch;
}

struct Counts {
  int64_t in_ops = 0;
  int64_t in_steps = 0;  // ops included
  std::string ops;
};

Counts CountSteps(const TinyModelSpec& spec, FfnModes modes, int n_threads) {
  const TempFile file(TinyModel(spec));
  auto device = kernels::MakeCpuDevice({.n_threads = n_threads});
  auto model = OpenModel(file.path());
  EXPECT_TRUE(device.ok() && model.ok());
  AllocationCounter ops;
  StageOptions options;
  options.layers = {0, model->config.n_layer, true, true};
  options.ffn = {modes, true};
  options.kv.n_pages = 64;
  options.observer = &ops;
  auto stage = Stage::Create(model->source(), options, **device, nullptr, IgnoreProgress);
  EXPECT_TRUE(stage.ok()) << stage.status();
  std::vector<proto::StepBatch> batches = {BatchAt(0)};
  for (int i = 0; i < kWarmSteps + kSteps; ++i) batches.push_back(BatchAt(kPrompt + i));

  bool is_ok = true;
  size_t i = 0;
  for (; i < 1 + kWarmSteps; ++i) is_ok &= (*stage)->Run(batches[i], {}).ok();
  ops.Reset();
  const int64_t before = n_allocations;
  for (; i < batches.size(); ++i) is_ok &= (*stage)->Run(batches[i], {}).ok();
  const int64_t in_steps = n_allocations - before;
  EXPECT_TRUE(is_ok);
  return {ops.total(), in_steps, ops.Text()};
}

// In each of the modes alone, and where a stage chooses among them.
void ExpectNone(const TinyModelSpec& spec, std::initializer_list<FfnMode> modes) {
  FfnModes all;
  for (const FfnMode mode : modes) all.Add(mode);
  std::vector<FfnModes> choices(modes.begin(), modes.end());
  choices.push_back(all);
  for (const FfnModes& choice : choices) {
    for (const int n_threads : {1, 2}) {
      const Counts counts = CountSteps(spec, choice, n_threads);
      const std::string what =
          spec.arch + " " + model::FfnModesText(choice) + " threads=" + std::to_string(n_threads);
      EXPECT_EQ(counts.in_ops, 0) << what << counts.ops;
      EXPECT_EQ(counts.in_steps, 0) << what << " outside of the ops";
    }
  }
}

TEST(StepAllocationsTest, TheCounterSeesAllocations) {
  const int64_t before = n_allocations;
  const std::vector<int> some(100);
  EXPECT_EQ(n_allocations - before, 1);
  EXPECT_EQ(some.size(), 100u);
}

TEST(StepAllocationsTest, DecodingAllocatesNothing) {
  for (const DType dtype : {DType::kF32, DType::kQ4_0}) {
    for (const char* arch : {"llama", "arcee", "opt"}) {
      TinyModelSpec spec{.arch = arch, .dtype = dtype};
      spec.activation = arch == std::string("llama") ? "relu" : "";
      ExpectNone(spec, {FfnMode::kDense, FfnMode::kExact});
    }
    ExpectNone({.dialect = GgufDialect::kPowerInfer, .dtype = dtype},
               {FfnMode::kDense, FfnMode::kExact, FfnMode::kPredicted});
  }
}

}  // namespace
}  // namespace thermocline::worker
