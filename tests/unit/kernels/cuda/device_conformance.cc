// The device itself: its memory, copies, marks, packing and counts.
#include "device_conformance.h"

#include <algorithm>
#include <numeric>

#include "conformance_operands.h"
#include "staged_device.h"

namespace thermocline::kernels {
namespace {

TEST_P(DeviceConformanceTest, NoTokens) {
  StagedOps ops(device());
  const Tensor w = RandomWeights(DType::kQ4_0, 3, 32, 8).Packed(), none(DType::kF32, 0, 32);
  Tensor y(DType::kF32, 1, 32);
  y.at(0, 0) = 7;
  ops.MatMul(w.view(), none.view(), {}, Tensor(DType::kF32, 0, 3).view());
  ops.Embed(w.view(), {}, y.view().Rows(0, 0));
  ops.Add(none.view(), none.view(), none.view());
  ops.RmsNorm(none.view(), y.view(), 1e-5f, none.view());
  ops.Attention(none.view(), {}, {nullptr, nullptr, DType::kF16, 4, 1, 16}, 1.0f, none.view());
  ops.StoreKv(none.view(), none.view(), {}, {nullptr, nullptr, DType::kF16, 4, 2, 16});
  EXPECT_EQ(y.at(0, 0), 7) << "a row beyond the batch was written";
}

TEST_P(DeviceConformanceTest, CopiesComeBackAndMarksPass) {
  EXPECT_FALSE(device().reads_host_memory());
  auto there = device().Allocate(4096), host = device().AllocateHost(4096);
  ASSERT_TRUE(there.ok() && host.ok());
  std::iota(reinterpret_cast<uint32_t*>(host->data()),
            reinterpret_cast<uint32_t*>(host->data()) + 1024, 5u);
  auto back = device().AllocateHost(4096);
  ASSERT_TRUE(back.ok());
  device().CopyToDevice(host->data(), there->data(), 4096);
  const WorkMark copied = device().Mark();
  device().CopyWithin(there->data(), there->data() + 2048, 1024);
  device().CopyToHost(there->data(), back->data(), 4096);
  const WorkMark done = device().Mark();
  EXPECT_GT(done, copied);
  ASSERT_TRUE(device().Wait(copied).ok());
  ASSERT_TRUE(device().Wait(done).ok());
  EXPECT_TRUE(device().IsDone(copied));
  EXPECT_TRUE(device().IsDone(done));
  EXPECT_EQ(std::memcmp(back->data(), host->data(), 2048), 0);
  EXPECT_EQ(std::memcmp(back->data() + 2048, host->data(), 1024), 0) << "copied within";
  EXPECT_EQ(std::memcmp(back->data() + 3072, host->data() + 3072, 1024), 0);
  // More marks than there are events: the first is still known to be done.
  for (int i = 0; i < 200; ++i) (void)device().Mark();
  ASSERT_TRUE(device().Synchronize().ok());
  EXPECT_TRUE(device().IsDone(copied));
}

TEST_P(DeviceConformanceTest, HeadsThatAreTooWideAreRefusedBeforeTheyAreComputed) {
  EXPECT_TRUE(device().Prepare({.max_rows = 64, .max_pages = 1000, .head_dim = 256}).ok());
  const Status status = device().Prepare({.head_dim = 512});
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("head_dim=512 max=256"), std::string::npos) << status;
  EXPECT_NE(status.message().find(device().name()), std::string::npos) << status;
  EXPECT_TRUE(device().Synchronize().ok()) << "the device goes on";
}

TEST_P(DeviceConformanceTest, NewMemoryIsZeroAndMemoryEnds) {
  auto there = device().Allocate(1000);
  ASSERT_TRUE(there.ok());
  std::vector<std::byte> back(1000, std::byte{1});
  device().CopyToHost(there->data(), back.data(), back.size());
  ASSERT_TRUE(device().Synchronize().ok());
  EXPECT_TRUE(std::ranges::all_of(back, [](std::byte b) { return b == std::byte{0}; }));
  const DeviceMemory memory = device().memory();
  EXPECT_GT(memory.free_bytes, 0u);
  EXPECT_LE(memory.free_bytes, memory.total_bytes);
  const auto refused = device().Allocate(memory.total_bytes + 1);
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
}

TEST_P(DeviceConformanceTest, PackCopiesRowsAndNamesTheFirstThatIsNotFinite) {
  for (const DType dtype : kDeviceWeightTypes) {
    Tensor w = RandomWeights(dtype, 40, 512, 1);
    const Tensor packed = w.Packed();
    auto there = device().Allocate(w.view().bytes() + kLanesSlackBytes);
    ASSERT_TRUE(there.ok());
    TensorView to = packed.view();
    to.data = there->data();
    ASSERT_EQ(to.layout, device().PreferredLayout(dtype));
    EXPECT_EQ(device().Pack(w.view(), to), -1) << DTypeName(dtype);
    std::vector<std::byte> back(w.view().bytes());
    device().CopyToHost(to.data, back.data(), back.size());
    ASSERT_TRUE(device().Synchronize().ok());
    EXPECT_EQ(std::memcmp(back.data(), packed.view().data, back.size()), 0) << DTypeName(dtype);
    const int at = dtype == DType::kF32 ? 3 : dtype == DType::kQ6_K ? 209 : 1;
    for (const int64_t row : {31, 7}) {
      w.view().row(row)[at] = std::byte{0x7f};
      w.view().row(row)[at - 1] = std::byte{0xff};
    }
    EXPECT_EQ(device().Pack(w.view(), to), 7) << DTypeName(dtype);
  }
}

// As neurons in heat order are: through staging that is used again, three times over.
TEST_P(DeviceConformanceTest, PackTakesRowsOneByOneToPlacesOfTheirOwn) {
  constexpr int64_t kRows = 13, kCols = int64_t{1} << 20;
  const Tensor w = RandomActivations(kRows, kCols, 5);
  auto there = device().Allocate(w.view().bytes() + kLanesSlackBytes);
  ASSERT_TRUE(there.ok());
  const TensorView to = TensorView::Dense(there->data(), DType::kF32, kRows, kCols);
  for (int64_t row = 0; row < kRows; ++row) {
    EXPECT_EQ(device().Pack(w.view().Rows(row, 1), to.Rows(row * 5 % kRows, 1)), -1);
  }
  std::vector<std::byte> back(w.view().bytes());
  device().CopyToHost(to.data, back.data(), back.size());
  ASSERT_TRUE(device().Synchronize().ok());
  const auto row_bytes = static_cast<size_t>(to.row_stride_bytes);
  for (int64_t row = 0; row < kRows; ++row) {
    const std::byte* const placed = back.data() + static_cast<size_t>(row * 5 % kRows) * row_bytes;
    EXPECT_EQ(std::memcmp(placed, w.view().row(row), row_bytes), 0) << row;
  }
}

TEST_P(DeviceConformanceTest, CountsTheRowsOfActiveNeuronsOnce) {
  const auto cpu = Cpu();
  StagedOps staged(device());
  const NeuronCase test = {true, false, Activation::kRelu, NeuronCase::kAll, true};
  for (const int64_t n_tokens : {1, 3}) {
    NeuronOperands in(DType::kF16, test, n_tokens);
    const Tensor w = RandomWeights(DType::kF16, kNeurons, 768, 3);
    const auto run = [&](Ops& ops) {
      Tensor a = RunNeurons(ops, test, in);
      (void)Axpy(ops, w, a, in.list.get(), Tensor());
      List named(kNeurons);
      ops.SelectAtLeast(in.needs.view(), 0.5f, named.get());
    };
    const Traffic before = device().ops().traffic(), before_cpu = cpu->ops().traffic();
    run(staged);
    run(cpu->ops());
    const Traffic read = device().ops().traffic() - before;
    const Traffic expected = cpu->ops().traffic() - before_cpu;
    EXPECT_EQ(read.neuron_bytes, expected.neuron_bytes);
    EXPECT_EQ(read.weight_bytes, expected.weight_bytes);
    EXPECT_EQ(read.n_neurons, expected.n_neurons);
    EXPECT_EQ(read.n_neurons_active, expected.n_neurons_active);
    EXPECT_EQ(read.n_neurons_scored, expected.n_neurons_scored);
    EXPECT_EQ(read.n_neurons_named, expected.n_neurons_named);
  }
}

}  // namespace
}  // namespace thermocline::kernels
