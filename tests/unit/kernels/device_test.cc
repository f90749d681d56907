#include "kernels/device.h"

#include <gtest/gtest.h>

#include <set>

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

TEST(DeviceTest, NoCudaIsUnavailable) {
  const auto device = MakeCudaDevice(99);
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.status().code(), StatusCode::kUnavailable);
}

TEST(DeviceTest, TheReferenceIsNamed) {
  const auto device = MakeReferenceDevice();
  EXPECT_EQ(device->name(), "reference");
}

}  // namespace
}  // namespace thermocline::kernels
