// Workers of a cluster, each with its own step loop, in this process: members of one stage, over
// links or with a group of those on GPUs; or stages that follow each other.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "tests/support/temp_file.h"
#include "worker/step_loop.h"

namespace thermocline::testing {

// Who computes: the lead first, then its helpers in the plan's order, or stages of a layer each.
struct GroupLayout {
  const char* name = "";
  std::vector<bool> on_gpu;
  // members[m][layer]; empty: even parts everywhere.
  std::vector<std::vector<model::NeuronRange>> neurons;
  // KV heads by member; none: all of them are the lead's.
  std::vector<model::HeadRange> heads;
  int micro_batches = 1;
  bool in_stages = false;  // kGroupLayers members then
};

// How sums go, and activations between stages: by way of the hosts, or by NCCL among GPUs.
enum class Sums : uint8_t { kByLinks, kByGroup };

// What a member computes on. Members of the group have all three.
struct MemberDevice {
  worker::GpuWays ways;
  comm::Gpu::Stream stream;  // of the device, where it is not the device's own
  std::unique_ptr<kernels::Device> device;
};
using MakeMember = std::function<MemberDevice(int gpu)>;

// The models that it is for: TinyModelSpec's n_layer and n_ff.
inline constexpr int kGroupLayers = 3;
inline constexpr int kGroupNeurons = 320;
// That Serve submits.
inline constexpr int kGroupSteps = 5;

// What is said of the logits of every row, by step.
using GroupResults = std::map<uint64_t, std::vector<proto::StepResultEntry>>;
std::vector<float> LogProbs(const GroupResults& results);

// Fails the test where a loop ends by itself, or nothing comes. One thread.
class GroupCluster {
 public:
  // Members on GPUs are made in their order, the k-th for GPU k.
  GroupCluster(const TempFile& file, GroupLayout layout, model::FfnModes modes,
               const MakeMember& make_gpu);
  ~GroupCluster() { End(); }

  // All members, until they are ready.
  void Start(Sums sums);
  proto::AssignPlan MessageOf(Sums sums, const std::string& nccl_id) const;
  // For each member of stages that follow each other.
  std::vector<proto::AssignPlan> StageMessages(Sums sums) const;
  void StartOne(size_t member, proto::AssignPlan message, worker::HeldModel held = {});
  void AwaitReady();

  // Chunks of prompts, several sequences at once, single tokens; submitted all at once.
  GroupResults Serve();
  void Submit(uint64_t step, std::vector<proto::StepEntry> entries);
  void AwaitResult();
  // All members at the same time; how long that took.
  Duration End();
  worker::StepLoop& loop(size_t member) { return *members_[member].loop; }
  std::string AddressOf(size_t member) const { return members_[member].port->address(); }
  std::string MakeId() const { return members_.front().on.ways.MakeId(); }
  uint64_t link_bytes_sent(size_t member) const {
    return members_[member].counters.link_bytes_sent;
  }
  int n_failures() const { return n_failures_; }
  // The last of them.
  Status failure() const {
    const MutexLock lock(mutex_);
    return failure_;
  }
  // From now on loops may end by themselves.
  void MayFail() { may_fail_ = true; }
  // Loops that ended since the link to another was gone.
  int n_lost() const { return n_lost_; }

 private:
  struct Member {
    std::unique_ptr<comm::Mailbox> mailbox;
    MemberDevice on;
    worker::StepCounters counters;
    std::unique_ptr<comm::DataPort> port;
    std::unique_ptr<worker::StepLoop> loop;
  };
  proto::AssignPlan ModelMessage() const;

  const SteadyClock clock_{};
  const TempFile& file_;
  GroupLayout layout_;
  const model::FfnModes modes_;
  comm::LoopbackMailboxHub mailboxes_;
  const std::unique_ptr<comm::Mailbox> server_;
  comm::LoopbackHub hub_;
  std::atomic<int> n_failures_ = 0, n_lost_ = 0;
  std::atomic<bool> may_fail_ = false;
  mutable Mutex mutex_;
  Status failure_ GUARDED_BY(mutex_);
  std::vector<Member> members_;
};

// A row or more of a sequence, whose last one is sampled.
proto::StepEntry GroupEntry(SeqId seq, int64_t position, std::vector<int32_t> tokens);

// Serve of a cluster made for it.
GroupResults ServedBy(GroupCluster* cluster, Sums sums);

}  // namespace thermocline::testing
