#include "tests/support/group_cluster.h"

#include <gtest/gtest.h>

#include <thread>
#include <utility>

#include "model/graph.h"
#include "proto/codec.h"
#include "tests/support/patience.h"
#include "tests/support/worker_talk.h"

namespace thermocline::testing {
namespace {

using model::NeuronRange;

constexpr int kMaxStepTokens = 32;
constexpr size_t kSteps = kGroupSteps;

WorkerId IdOf(size_t member) { return {member + 1}; }

// Of whole chunks that are summed together.
std::vector<std::vector<NeuronRange>> EvenParts(size_t n_members) {
  constexpr int64_t kChunks = kGroupNeurons / model::kSumChunk;
  const auto n = static_cast<int64_t>(n_members);
  std::vector<std::vector<NeuronRange>> parts;
  for (int64_t m = 0; m < n; ++m) {
    const NeuronRange own{kChunks * m / n * model::kSumChunk,
                          kChunks * (m + 1) / n * model::kSumChunk};
    parts.emplace_back(kGroupLayers, own);
  }
  return parts;
}

}  // namespace

GroupCluster::GroupCluster(const TempFile& file, GroupLayout layout, model::FfnModes modes,
                           const MakeMember& make_gpu)
    : file_(file),
      layout_(std::move(layout)),
      modes_(modes),
      server_(mailboxes_.MakeServer()),
      members_(layout_.on_gpu.size()) {
  if (layout_.neurons.empty()) layout_.neurons = EvenParts(members_.size());
  int n_gpus = 0;
  for (size_t m = 0; m < members_.size(); ++m) {
    members_[m].mailbox = std::move(mailboxes_.Connect(comm::PeerId{m + 1})).value();
    members_[m].port = hub_.MakePort(IdOf(m));
    if (layout_.on_gpu[m]) {
      members_[m].on = make_gpu(n_gpus++);
    } else {
      members_[m].on.device = std::move(kernels::MakeCpuDevice({1, {}})).value();
    }
  }
}

void GroupCluster::Start(Sums sums) {
  if (layout_.in_stages) {
    const std::vector<proto::AssignPlan> messages = StageMessages(sums);
    for (size_t m = 0; m < members_.size(); ++m) StartOne(m, messages[m]);
  } else {
    const std::string id = MakeId();
    for (size_t m = 0; m < members_.size(); ++m) StartOne(m, MessageOf(sums, id));
  }
  for (size_t m = 0; m < members_.size(); ++m) AwaitReady();
}

void GroupCluster::AwaitReady() { (void)AwaitMessage<proto::Ready>(*server_, kPatience); }

void GroupCluster::AwaitResult() { (void)AwaitMessage<proto::StepResult>(*server_, kPatience); }

proto::AssignPlan GroupCluster::ModelMessage() const {
  proto::AssignPlan message;
  SetModel(file_.path(), &message);
  message.ffn = modes_;
  message.max_step_tokens = kMaxStepTokens;
  message.plan.epoch = {1};
  message.plan.kv.n_pages = 16;
  message.plan.micro_batches = layout_.micro_batches;
  return message;
}

proto::AssignPlan GroupCluster::MessageOf(Sums sums, const std::string& nccl_id) const {
  proto::AssignPlan message = ModelMessage();
  message.stage = 0;
  placement::StagePlan stage{.lead = IdOf(0), .layers = {0, kGroupLayers, true, true}};
  if (members_.size() > 1) stage.neurons = layout_.neurons.front();
  if (!layout_.heads.empty()) stage.heads = layout_.heads.front();
  for (size_t m = 1; m < members_.size(); ++m) {
    stage.helpers.push_back({.worker = IdOf(m), .neurons = layout_.neurons[m]});
    if (!layout_.heads.empty()) stage.helpers.back().heads = layout_.heads[m];
    message.helper_addresses.push_back(members_[m].port->address());
    const bool in_group = sums == Sums::kByGroup && layout_.on_gpu[0] && layout_.on_gpu[m];
    if (in_group) message.nccl_helpers.push_back(static_cast<int>(m) - 1);
  }
  if (!message.nccl_helpers.empty()) message.nccl_id = nccl_id;
  message.plan.stages = {stage};
  message.lead_address = members_[0].port->address();
  return message;
}

std::vector<proto::AssignPlan> GroupCluster::StageMessages(Sums sums) const {
  std::vector<proto::AssignPlan> messages(members_.size(), ModelMessage());
  placement::Plan plan = messages.front().plan;
  for (size_t m = 0; m < members_.size(); ++m) {
    const bool is_last = m + 1 == members_.size();
    const auto layer = static_cast<int>(m);
    plan.stages.push_back({.lead = IdOf(m), .layers = {layer, layer + 1, m == 0, is_last}});
    messages[m].stage = layer;
    if (is_last) continue;
    messages[m].next_address = members_[m + 1].port->address();
    messages[m + 1].previous_address = members_[m].port->address();
    if (sums == Sums::kByLinks || !layout_.on_gpu[m] || !layout_.on_gpu[m + 1]) continue;
    messages[m].next_nccl_id = messages[m + 1].previous_nccl_id = members_[m].on.ways.MakeId();
  }
  for (proto::AssignPlan& message : messages) message.plan = plan;
  return messages;
}

void GroupCluster::StartOne(size_t m, proto::AssignPlan message, worker::HeldModel held) {
  Member& member = members_[m];
  worker::Assignment assignment;
  assignment.self = IdOf(m);
  assignment.message = std::move(message);
  if (!layout_.in_stages) assignment.message.helper = static_cast<int>(m) - 1;
  member.loop.reset();  // a device is one thread's at a time
  member.loop = std::make_unique<worker::StepLoop>(
      worker::StepContext{.clock = clock_,
                          .mailbox = *member.mailbox,
                          .ports = {.zmq = member.port.get()},
                          .device = *member.on.device,
                          .counters = member.counters,
                          .cpus = {},
                          .gpu_ways = &member.on.ways},
      std::move(assignment),
      [this](const worker::StepEnd& end) {
        if (end.lost_peer) {  // it waits for another plan, as after the loss of a group
          ++n_lost_;
          return;
        }
        {
          const MutexLock lock(mutex_);
          failure_ = end.why;
        }
        ++n_failures_;
        if (!may_fail_) ADD_FAILURE() << end.why;
      },
      std::move(held));
}

void GroupCluster::Submit(uint64_t step, std::vector<proto::StepEntry> entries) {
  proto::StepBatch batch{.epoch = {1}, .step = {step}, .entries = std::move(entries)};
  ASSERT_TRUE(members_.front().loop->Submit(std::move(batch)));
}

GroupResults GroupCluster::Serve() {
  const auto entry = GroupEntry;
  Submit(1, {entry({1}, 0, {5, 17, 42, 260, 8, 99, 3})});
  Submit(2, {entry({2}, 0, {61, 7}), entry({3}, 0, {200, 11, 12})});
  Submit(3, {entry({1}, 7, {44, 45, 46, 47}), entry({2}, 2, {9})});
  Submit(4, {entry({3}, 3, {21})});
  Submit(5, {entry({1}, 11, {30}), entry({2}, 3, {31}), entry({3}, 4, {32})});
  GroupResults results;
  while (results.size() < kSteps) {
    auto result = AwaitMessage<proto::StepResult>(*server_, kPatience);
    if (result.entries.empty()) break;
    results[result.step.value] = std::move(result.entries);
  }
  return results;
}

Duration GroupCluster::End() {
  const TimePoint begin = clock_.Now();
  std::vector<std::thread> ends;
  for (Member& member : members_) {
    ends.emplace_back([&member] { member.loop.reset(); });
  }
  for (std::thread& end : ends) end.join();
  return clock_.Now() - begin;
}

proto::StepEntry GroupEntry(SeqId seq, int64_t position, std::vector<int32_t> tokens) {
  proto::StepEntry entry{.seq = seq, .first_position = position, .tokens = std::move(tokens)};
  entry.sample = true;
  if (position > 0) return entry;
  entry.start.emplace();
  entry.start->params.n_prompt_logprobs = 3;
  entry.start->params.n_logprobs = model::kMaxLogprobs;
  entry.start->params.temperature = 0;
  entry.start->n_prompt = 100;  // all rows are of prompts, and scored
  return entry;
}

std::vector<float> LogProbs(const GroupResults& results) {
  std::vector<float> all;
  for (const auto& [step, entries] : results) {
    for (const proto::StepResultEntry& entry : entries) {
      for (const model::SampledToken& token : entry.prompt_scores) all.push_back(token.logprob);
      if (entry.sampled) all.push_back(entry.sampled->logprob);
    }
  }
  return all;
}

GroupResults ServedBy(GroupCluster* cluster, Sums sums) {
  cluster->Start(sums);
  GroupResults results = cluster->Serve();
  cluster->End();
  EXPECT_EQ(cluster->n_failures(), 0);
  EXPECT_EQ(results.size(), kSteps);
  return results;
}

}  // namespace thermocline::testing
