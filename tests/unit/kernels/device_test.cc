#include "kernels/device.h"

#include <gtest/gtest.h>

#include <set>

#include "base/clock.h"
#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

TEST(DeviceTest, NamesTheInstructionSetAndTheThreads) {
  const auto device = Cpu(3);
  EXPECT_TRUE(device->reads_host_memory());
  std::set<std::string> names;
  OnEachInstructionSet([&] {
    const std::string name = device->name();
    EXPECT_TRUE(name.starts_with("cpu ")) << name;
    EXPECT_TRUE(name.ends_with(" x3")) << name;
    EXPECT_TRUE(names.insert(name).second) << "the same set twice: " << name;
  });
  EXPECT_TRUE(names.contains("cpu scalar x3"));
}

TEST(DeviceTest, AForcedInstructionSetMustBeThere) {
  const std::string best = InstructionSets().front();
  EXPECT_TRUE(UseInstructionSet("auto").ok());
  EXPECT_TRUE(UseInstructionSet(best).ok());
  const Status refused = UseInstructionSet("avx1024");
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find(best), std::string::npos) << refused;
}

TEST(DeviceTest, ASlowedDeviceComputesTheSameInMoreTime) {
  const auto fast = Cpu();
  const auto slow = SlowDown(Cpu(), 3);
  EXPECT_EQ(slow->name(), fast->name() + " slowed down");
  const Tensor w = RandomWeights(DType::kQ8_0, 256, 512, 1);
  const Tensor x = RandomWeights(DType::kF32, 2, 512, 2);
  Tensor y(DType::kF32, 2, 256), slow_y(DType::kF32, 2, 256);
  fast->ops().MatMul(w.view(), x.view(), {}, y.view());
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  slow->ops().MatMul(w.view(), x.view(), {}, slow_y.view());
  EXPECT_GT(clock.Now(), begin);
  for (int t = 0; t < 2; ++t) {
    for (int i = 0; i < 256; ++i) ASSERT_EQ(slow_y.view().f32_row(t)[i], y.view().f32_row(t)[i]);
  }
  EXPECT_EQ(slow->ops().traffic().weight_bytes, fast->ops().traffic().weight_bytes);
}

TEST(DeviceTest, PackingNamesTheFirstRowWithAWeightThatIsNotANumber) {
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    for (const DType dtype : kWeightTypes) {
      Tensor w = RandomWeights(dtype, 40, 512, 1);
      Tensor packed = w.Packed();
      TensorView to = packed.view();
      to.layout = device->PreferredLayout(dtype);
      EXPECT_EQ(device->Pack(w.view(), to), -1) << DTypeName(dtype);
      // The high byte of the first scale or value of a row, with all bits of the exponent set.
      const int at = dtype == DType::kF32 ? 3 : dtype == DType::kQ6_K ? 209 : 1;
      for (const int64_t row : {31, 7}) {
        w.view().row(row)[at] = std::byte{0x7f};
        w.view().row(row)[at - 1] = std::byte{0xff};
      }
      EXPECT_EQ(device->Pack(w.view(), to), 7) << DTypeName(dtype);
    }
  }
}

TEST(DeviceTest, AllocatesAlignedMemory) {
  for (const auto& device : {Cpu(), MakeReferenceDevice()}) {
    auto buffer = device->Allocate(1000);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(buffer->size(), 1000u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
  }
}

TEST(DeviceTest, RefusesBadOptions) {
  EXPECT_EQ(MakeCpuDevice({.n_threads = 0}).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(MakeCpuDevice({.n_threads = -2}).status().code(), StatusCode::kInvalidArgument);
}

TEST(DeviceTest, AGpuThatIsNotThereIsUnavailable) {
  for (const int ordinal : {99, -1}) {
    const auto device = MakeCudaDevice(ordinal);
    ASSERT_FALSE(device.ok());
    EXPECT_EQ(device.status().code(), StatusCode::kUnavailable);
    EXPECT_EQ(device.status().message().find('\n'), std::string::npos) << device.status();
  }
}

TEST(DeviceTest, TheReferenceIsNamed) {
  const auto device = MakeReferenceDevice();
  EXPECT_EQ(device->name(), "reference");
}

}  // namespace
}  // namespace thermocline::kernels
