// The device of a member of a stage's group of GPUs.
#pragma once

#include <atomic>
#include <string>

#include "base/clock.h"
#include "kernels/device.h"
#include "worker/stage_group.h"

namespace thermocline::worker {

// The same device, whose waits end when the group is lost or its worker is to stop: what lies in
// the queue behind an operation of the group waits for the other members too, who may be gone.
// Nothing else differs, and without a group nothing at all. Step thread only.
class GroupDevice final : public kernels::Device {
 public:
  // All outlive it.
  GroupDevice(kernels::Device& device, const Clock& clock, const std::atomic<bool>& stopping)
      : device_(device), clock_(clock), stopping_(stopping) {}

  // From now on; null: none any more, and what it had under way is over or given up.
  void set_group(StageGroup* group) { group_ = group; }
  // The first error of the group that a wait found, when the device itself is well.
  const Status& loss() const { return loss_; }

  // kUnavailable names the device, the group's error where that is the cause; kAborted when
  // stopping; kDeadlineExceeded from members that are not done within kPatience.
  Status Wait(kernels::WorkMark mark) override;
  // Whether the group is well, without a wait; errors as Wait.
  Status CheckGroup();

  std::string name() const override { return device_.name(); }
  kernels::Ops& ops() override { return device_.ops(); }
  Result<Buffer> Allocate(uint64_t n_bytes) override { return device_.Allocate(n_bytes); }
  Result<Buffer> AllocateHost(uint64_t n_bytes) override { return device_.AllocateHost(n_bytes); }
  kernels::DeviceMemory memory() const override { return device_.memory(); }
  void CopyToDevice(const std::byte* host, std::byte* device, uint64_t n_bytes) override {
    device_.CopyToDevice(host, device, n_bytes);
  }
  void CopyToHost(const std::byte* device, std::byte* host, uint64_t n_bytes) override {
    device_.CopyToHost(device, host, n_bytes);
  }
  void CopyWithin(const std::byte* from, std::byte* to, uint64_t n_bytes) override {
    device_.CopyWithin(from, to, n_bytes);
  }
  Status Prepare(const kernels::StepBounds& bounds) override { return device_.Prepare(bounds); }
  kernels::WorkMark Mark() override { return device_.Mark(); }
  bool IsDone(kernels::WorkMark mark) override { return device_.IsDone(mark); }
  RowLayout PreferredLayout(DType dtype) const override { return device_.PreferredLayout(dtype); }
  int64_t Pack(TensorView from, TensorView to) override { return device_.Pack(from, to); }
  bool reads_host_memory() const override { return device_.reads_host_memory(); }
  void* stream() const override { return device_.stream(); }

  // All members compute on GPUs, of which the slowest is done with a step's largest chunk in
  // seconds.
  static constexpr Duration kPatience = std::chrono::minutes(2);

 private:
  Status Lose(Status why);

  kernels::Device& device_;
  const Clock& clock_;
  const std::atomic<bool>& stopping_;
  StageGroup* group_ = nullptr;
  Status loss_;
};

}  // namespace thermocline::worker
