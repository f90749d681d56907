// The CUDA backend on the emulator: the conformance suite, and what only an emulator can find out.
#include <gtest/gtest.h>

#include <numeric>

#include "../op_testing.h"
#include "device_conformance.h"
#include "kernels/cuda/emulator.h"
#include "staged_device.h"

namespace thermocline::kernels {
namespace {

using cuda::EmulatorOptions;
using cuda::MakeEmulatedDevice;

Result<std::unique_ptr<Device>> Forward() { return MakeEmulatedDevice({}); }
// Threads of a block in the other order, and so many multiprocessors that attention is split.
Result<std::unique_ptr<Device>> Reversed() {
  return MakeEmulatedDevice({.is_reversed = true, .n_multiprocessors = 1000});
}

INSTANTIATE_TEST_SUITE_P(Emulated, DeviceConformanceTest,
                         testing::Values(DeviceMaker{"Forward", Forward},
                                         DeviceMaker{"Reversed", Reversed}),
                         MakerName);

std::unique_ptr<Device> Emulated(const EmulatorOptions& options = {}) {
  auto device = MakeEmulatedDevice(options);
  EXPECT_TRUE(device.ok()) << device.status();
  return std::move(device).value();
}

TEST(EmulatedDeviceTest, IsNamed) { EXPECT_EQ(Emulated()->name(), "cuda:0 emulated"); }

// A kernel that forgot to wait for its block, or a result that depends on how attention is split,
// shows as a difference between the two.
TEST(EmulatedDeviceTest, TheOrderOfThreadsAndTheNumberOfMultiprocessorsDoNotChangeABit) {
  const auto one = Emulated();
  const auto other = Emulated({.is_reversed = true, .n_multiprocessors = 1000});
  StagedOps a(*one), b(*other);
  const Tensor w = RandomWeights(DType::kQ4_K, 130, 768, 1).Packed();
  const Tensor x = RandomActivations(3, 768, 2), factors = RandomActivations(3, 130, 3);
  Tensor products_a(DType::kF32, 3, 130), products_b = products_a;
  a.MatMul(w.view(), x.view(), {}, products_a.view());
  b.MatMul(w.view(), x.view(), {}, products_b.view());
  ExpectSameBits(products_a, products_b, "products");
  Tensor sums_a(DType::kF32, 3, 768), sums_b = sums_a;
  a.AxpyRows(w.view(), factors.view(), ActiveIds::All(), {}, sums_a.view());
  b.AxpyRows(w.view(), factors.view(), ActiveIds::All(), {}, sums_b.view());
  ExpectSameBits(sums_a, sums_b, "sums");

  std::vector<int32_t> page_ids(40);
  for (int32_t i = 0; i < 40; ++i) page_ids[static_cast<size_t>(i)] = 39 - i;
  std::vector<std::byte> k(40 * 16 * 2 * 16 * 2), v(k.size());
  const KvPages pages = {k.data(), v.data(), DType::kF16, 16, 2, 16};
  const std::vector<SequenceRows> stored = {{0, 640, 0, page_ids}};
  const Tensor keys = RandomActivations(640, 32, 4), values = RandomActivations(640, 32, 5);
  a.StoreKv(keys.view(), values.view(), stored, pages);
  const Tensor q = RandomActivations(7, 64, 6);
  const std::vector<SequenceRows> asked = {{0, 7, 633, page_ids}};
  Tensor y_a(DType::kF32, 7, 64), y_b = y_a;
  a.Attention(q.view(), asked, pages, 0.25f, y_a.view());
  b.Attention(q.view(), asked, pages, 0.25f, y_b.view());
  ExpectSameBits(y_a, y_b, "attention");
}

// Ops that do not find room in scratch work in blocks of tokens or of positions.
TEST(EmulatedDeviceTest, HowMuchScratchThereIsDoesNotChangeABit) {
  const auto little = Emulated({.scratch_bytes = 16 << 10});
  const auto much = Emulated();
  StagedOps a(*little), b(*much);
  // 23 rounded rows of 512 columns fit.
  constexpr int64_t kTokens = 25;
  const Tensor w = RandomWeights(DType::kQ8_0, 5, 512, 1).Packed();
  const Tensor x = RandomActivations(kTokens, 512, 2), scores = RandomActivations(kTokens, 5, 3);
  Tensor y_a(DType::kF32, kTokens, 5), y_b = y_a;
  a.MatMul(w.view(), x.view(), {}, y_a.view());
  b.MatMul(w.view(), x.view(), {}, y_b.view());
  ExpectSameBits(y_a, y_b, "products");
  const NeuronNeeds needs = {.scores = scores.view(), .threshold = 0.1f};
  for (StagedOps* ops : {&a, &b}) {
    ops->Neurons({.gate = w.view(), .up = w.view()}, Activation::kRelu, x.view(), ActiveIds::All(),
                 needs, ops == &a ? y_a.view() : y_b.view());
  }
  ExpectSameBits(y_a, y_b, "neurons");
}

// 8 tiles of rows with 256 dimensions leave room for two chunks of positions at a time.
TEST(EmulatedDeviceTest, AttentionOverMoreChunksThanFitScratchHasTheSameBits) {
  const auto rounds = Emulated({.n_multiprocessors = 1000, .scratch_bytes = 200 << 10});
  const auto one_block = Emulated({.n_multiprocessors = 1});
  StagedOps a(*rounds), b(*one_block);
  std::vector<int32_t> page_ids(45);
  std::iota(page_ids.begin(), page_ids.end(), 0);
  std::vector<std::byte> k(45 * 16 * 256 * 2), v(k.size());
  const KvPages pages = {k.data(), v.data(), DType::kF16, 16, 1, 256};
  const Tensor keys = RandomActivations(720, 256, 4), values = RandomActivations(720, 256, 5);
  a.StoreKv(keys.view(), values.view(), std::vector<SequenceRows>{{0, 720, 0, page_ids}}, pages);
  const Tensor q = RandomActivations(8, 8 * 256, 6);
  // Some end in the first round, some where it ends, most in the second.
  const std::vector<SequenceRows> asked = {
      {0, 2, 100, page_ids}, {2, 3, 510, page_ids}, {5, 3, 700, page_ids}};
  Tensor y_a(DType::kF32, 8, 8 * 256), y_b = y_a;
  a.Attention(q.view(), asked, pages, 0.0625f, y_a.view());
  b.Attention(q.view(), asked, pages, 0.0625f, y_b.view());
  ExpectSameBits(y_a, y_b, "attention");
}

// What ops take from the host may change once they have returned: nothing has run by then.
TEST(EmulatedDeviceTest, OpsCopyWhatTheyTakeFromTheHost) {
  const auto device = Emulated();
  const Tensor table = RandomWeights(DType::kF32, 4, 8, 1);
  auto there = device->Allocate(table.view().bytes()), y = device->Allocate(2 * 8 * sizeof(float));
  ASSERT_TRUE(there.ok() && y.ok());
  device->CopyToDevice(table.view().data, there->data(), table.view().bytes());
  std::vector<int32_t> ids = {3, 1};
  const TensorView on_device = TensorView::Dense(there->data(), DType::kF32, 4, 8);
  device->ops().Embed(on_device, ids, TensorView::Dense(y->data(), DType::kF32, 2, 8));
  ids = {0, 0};
  std::vector<float> back(16);
  device->CopyToHost(y->data(), reinterpret_cast<std::byte*>(back.data()), 64);
  const WorkMark mark = device->Mark();
  EXPECT_FALSE(device->IsDone(mark)) << "the emulator runs what it must, when it must";
  ASSERT_TRUE(device->Wait(mark).ok());
  for (size_t c = 0; c < 8; ++c) {
    EXPECT_EQ(back[c], table.at(3, static_cast<int64_t>(c)));
    EXPECT_EQ(back[8 + c], table.at(1, static_cast<int64_t>(c)));
  }
}

TEST(EmulatedDeviceTest, RowsThatFitStagingArePackedWithoutAWait) {
  const auto device = Emulated();
  const Tensor w = RandomActivations(100, 64, 1);
  auto there = device->Allocate(w.view().bytes());
  ASSERT_TRUE(there.ok());
  const TensorView to = TensorView::Dense(there->data(), DType::kF32, 100, 64);
  ASSERT_TRUE(device->Synchronize().ok());
  for (int64_t row = 0; row < 100; ++row) {
    ASSERT_EQ(device->Pack(w.view().Rows(row, 1), to.Rows(99 - row, 1)), -1);
  }
  const WorkMark mark = device->Mark();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(device->IsDone(mark)) << "each look runs one copy";
}

TEST(EmulatedDeviceTest, WhatWasPreparedForWaitsForNoMemory) {
  const auto device = Emulated();
  constexpr int64_t kPages = 1 << 20;
  ASSERT_TRUE(device->Prepare({.max_rows = 8, .max_pages = kPages}).ok());
  auto memory = device->Allocate(4096);
  ASSERT_TRUE(memory.ok() && device->Synchronize().ok());
  const uint64_t free_bytes = device->memory().free_bytes;
  const std::vector<int32_t> page_ids(kPages, 0);
  const KvPages pages = {memory->data(), memory->data(), DType::kF32, 16, 1, 8};
  const TensorView row = TensorView::Dense(memory->data() + 2048, DType::kF32, 1, 8);
  device->ops().StoreKv(row, row, std::vector<SequenceRows>{{0, 1, 0, page_ids}}, pages);
  const WorkMark mark = device->Mark();
  EXPECT_EQ(device->memory().free_bytes, free_bytes);
  EXPECT_FALSE(device->IsDone(mark)) << "nothing waited for the device";
}

// As small as it is, what a recording takes comes back.
TEST(EmulatedDeviceTest, ARecordingTakesMemoryUntilItIsDropped) {
  const auto device =
      Emulated({.memory_bytes = uint64_t{64} << 20, .recorded_launch_bytes = uint64_t{8} << 20});
  ASSERT_TRUE(device->Prepare({.max_rows = 8, .max_pages = 8}).ok());
  auto x = device->Allocate(1024);
  ASSERT_TRUE(x.ok());
  const TensorView view = TensorView::Dense(x->data(), DType::kF32, 1, 4);
  const uint64_t free_bytes = device->memory().free_bytes;
  const auto record = [&](int n) {
    EXPECT_TRUE(device->recorder()->Begin({}, 512).ok());
    for (int i = 0; i < n; ++i) device->ops().Add(view, view, view);
    return device->recorder()->End(100);
  };
  const auto recording = record(2);
  ASSERT_TRUE(recording.ok()) << recording.status();
  EXPECT_EQ(recording->n_launches, 2);
  EXPECT_EQ(device->memory().free_bytes, free_bytes - (uint64_t{16} << 20));
  EXPECT_EQ(record(50).status().code(), StatusCode::kResourceExhausted);
  device->recorder()->Drop(recording->id);
  EXPECT_EQ(device->memory().free_bytes, free_bytes);
  // Where arguments move, what was recorded for their places goes.
  ASSERT_TRUE(record(2).ok());
  ASSERT_TRUE(device->Prepare({.max_rows = 8, .max_pages = 100}).ok());
  EXPECT_GT(device->memory().free_bytes, free_bytes - (uint64_t{1} << 20));
  const auto refusing = Emulated({.records = false});
  ASSERT_TRUE(refusing->Prepare({.max_rows = 8}).ok());
  EXPECT_EQ(refusing->recorder()->Begin({}, 512).code(), StatusCode::kUnavailable);
}

TEST(EmulatedDeviceDeathTest, TheHostMayNotTouchTheDevicesMemory) {
  const auto device = Emulated();
  auto buffer = device->Allocate(64);
  ASSERT_TRUE(buffer.ok());
  ASSERT_TRUE(device->Synchronize().ok());
  volatile std::byte* const data = buffer->data();
  EXPECT_DEATH((void)(data[0] = std::byte{1}), "");
}

TEST(EmulatedDeviceDeathTest, WorkMayNotReachBeyondAnAllocation) {
  EXPECT_DEATH(
      {
        const auto device = Emulated();
        auto x = device->Allocate(256);
        const TensorView view = TensorView::Dense(x->data(), DType::kF32, 1, 65);
        device->ops().Add(view, view, view);
        (void)device->Synchronize();
      },
      "");
}

TEST(EmulatedDeviceTest, NoMemoryForAnOpIsSaidByTheNextWait) {
  const auto device = Emulated({.memory_bytes = uint64_t{64} << 10, .scratch_bytes = 16 << 10});
  auto x = device->Allocate(1024);
  ASSERT_TRUE(x.ok());
  const TensorView view = TensorView::Dense(x->data(), DType::kF32, 1, 4);
  const std::vector<int32_t> ids = {0};
  device->ops().Embed(view, ids, view);  // the ring of uploads does not fit
  const Status status = device->Synchronize();
  EXPECT_EQ(status.code(), StatusCode::kResourceExhausted) << status;
  EXPECT_NE(status.message().find("cuda:0 emulated"), std::string::npos) << status;
}

}  // namespace
}  // namespace thermocline::kernels
