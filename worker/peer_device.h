// The device of a worker that shares work with other workers' GPUs.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "base/clock.h"
#include "kernels/device.h"

namespace thermocline::worker {

// What other workers take part in and lies in the queue of this worker's device: the sums of a
// group, activations of a link. Step thread only.
class PeerWork {
 public:
  virtual ~PeerWork() = default;
  // Who takes part, for errors: "worker 2's GPU".
  virtual std::string peers() const = 0;
  // The first error so far, of a peer that is gone among others. Does not wait.
  virtual Status Check() = 0;
  // Gives up what is under way, so that the queue comes free; from now on everything gives `why`,
  // or the error that came before it.
  virtual Status Abort(Status why) = 0;
};

// The same device, whose waits end when work with others is lost or this worker is to stop: what
// lies in the queue behind such work waits for the others too, who may be gone. Nothing else
// differs, and while nobody is watched nothing at all. Step thread only.
class PeerDevice final : public kernels::Device {
 public:
  // All outlive it.
  PeerDevice(kernels::Device& device, const Clock& clock, const std::atomic<bool>& stopping)
      : device_(device), clock_(clock), stopping_(stopping) {}

  // From now on, until ForgetAll; then what it had under way is over or given up.
  void Watch(PeerWork* work) { watched_.push_back(work); }
  void ForgetAll() { watched_.clear(); }
  // The first error of work with others that a wait found, when the device itself is well.
  const Status& loss() const { return loss_; }

  // kUnavailable names the device, the others' error where that is the cause; kAborted when
  // stopping; kDeadlineExceeded, which names the others too, when they are not done within
  // kPatience.
  Status Wait(kernels::WorkMark mark) override;
  // Whether all is well with the others, without a wait; errors as Wait.
  Status CheckPeers();

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
  bool has_fp8_rows() const override { return device_.has_fp8_rows(); }
  int64_t Pack(TensorView from, TensorView to) override { return device_.Pack(from, to); }
  bool reads_host_memory() const override { return device_.reads_host_memory(); }
  void* stream() const override { return device_.stream(); }
  kernels::StepRecorder* recorder() override { return device_.recorder(); }

  // All members compute on GPUs, of which the slowest is done with a step's largest chunk in
  // seconds.
  static constexpr Duration kPatience = std::chrono::minutes(2);

 private:
  Status Lose(const Status& why);
  std::string Peers() const;

  kernels::Device& device_;
  const Clock& clock_;
  const std::atomic<bool>& stopping_;
  std::vector<PeerWork*> watched_;
  Status loss_;
};

}  // namespace thermocline::worker
