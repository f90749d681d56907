// What a step loop does with other GPUs: meeting them, and parting from them.
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "worker/step_loop.h"

namespace thermocline::worker {
namespace {

// Of work with other GPUs: whether it went wrong at this one, and no other is to blame.
bool IsOwnFailure(const Status& loss) {
  return loss.code() == StatusCode::kInternal || loss.code() == StatusCode::kInvalidArgument ||
         loss.code() == StatusCode::kResourceExhausted;
}

}  // namespace

Status StepLoop::MeetGpus() {
  const MeetingMemory memory(context_.device);
  if (assignment_.is_in_group()) {
    TC_RETURN_IF_ERROR(JoinGroup());
    TC_RETURN_IF_ERROR(ConnectToLead());
  }
  TC_RETURN_IF_ERROR(JoinNeighbours());
  memory.Tell();
  return OkStatus();
}

Status StepLoop::JoinGroup() {
  const proto::AssignPlan& message = assignment_.message;
  const comm::NcclPlace place{.id = message.nccl_id,
                              .rank = assignment_.group_rank(),
                              .n_ranks = 1 + static_cast<int>(message.nccl_helpers.size()),
                              .stop = &stopping_};
  const TimePoint deadline = context_.clock.Now() + kGpusMeetTimeout;
  const GpuWays& ways = *context_.gpu_ways;
  auto met = comm::MakeNcclGroup(*ways.nccl, *ways.gpu, place, deadline);
  if (!met.ok()) {
    return met.status().WithContext(Str("no group with the other GPUs of stage ", message.stage,
                                        " for ", context_.device.name(),
                                        " (--nccl off does without)"));
  }
  group_ = std::make_unique<StageGroup>(*std::move(met), context_.device.stream(), context_.clock,
                                        helpers_.get());
  peer_device_->Watch(group_.get());
  helper_ != nullptr ? helper_->set_group(group_.get()) : stage_->set_group(group_.get());
  LogInfo("worker", Str("epoch ", message.plan.epoch, ": ", context_.device.name(),
                        " is in a group", Kv("stage", message.stage), Kv("rank", place.rank),
                        Kv("gpus", place.n_ranks), Kv("nccl", ways.nccl->version())));
  return OkStatus();
}

// NCCL joins two members when the first value goes from one to the other: heads, which come by the
// group while it serves. One now, so that the memory that it takes is told.
Status StepLoop::ConnectToLead() {
  if (!assignment_.HasHeadsInGroup()) return OkStatus();
  TC_ASSIGN_OR_RETURN(first_word_, device().Allocate(sizeof(float)));
  const TensorView one = TensorView::Dense(first_word_.data(), DType::kF32, 1, 1);
  if (helper_ != nullptr) {
    TC_RETURN_IF_ERROR(group_->Send(one));
  } else {
    const auto n_helpers = static_cast<int>(assignment_.message.nccl_helpers.size());
    for (int member = 1; member <= n_helpers; ++member) {
      TC_RETURN_IF_ERROR(group_->Receive(member, one));
    }
  }
  return device().Synchronize();
}

GpuLinkContext StepLoop::GpuLinkTo(std::string_view nccl_id) {
  const proto::AssignPlan& message = assignment_.message;
  return {.clock = context_.clock,
          .stopping = stopping_,
          .device = *peer_device_,
          .ways = *context_.gpu_ways,
          .nccl_id = nccl_id,
          .epoch = message.plan.epoch,
          .n_embd = model_.config.n_embd,
          .max_rows = message.max_step_tokens};
}

// From the first stage to the last, so that all of them come to meet.
Status StepLoop::JoinNeighbours() {
  const proto::AssignPlan& message = assignment_.message;
  if (!message.previous_nccl_id.empty()) {
    TC_ASSIGN_OR_RETURN(gpu_previous_,
                        GpuReceiver::Join(GpuLinkTo(message.previous_nccl_id), *previous_));
    peer_device_->Watch(gpu_previous_.get());
    TC_RETURN_IF_ERROR(gpu_previous_->Answer());
  }
  if (message.next_nccl_id.empty()) return OkStatus();
  TC_ASSIGN_OR_RETURN(gpu_next_, GpuSender::Join(GpuLinkTo(message.next_nccl_id), *next_));
  peer_device_->Watch(gpu_next_.get());
  TC_RETURN_IF_ERROR(gpu_next_->Measure());
  stage_->set_staying_rows(gpu_next_->rows());
  LogInfo("worker", Str("epoch ", message.plan.epoch, ": activations of ", context_.device.name(),
                        " go to worker ", next_->peer(), " ", gpu_next_->Text()));
  return OkStatus();
}

void StepLoop::AwaitVerdict(const Status& loss) const {
  // Silence is noticed after seconds, and a plan takes some more.
  constexpr Duration kPatience = std::chrono::seconds(30);
  LogError("worker",
           Str("epoch ", assignment_.message.plan.epoch, ": the group of GPUs of stage ",
               assignment_.message.stage, " is lost to worker ", assignment_.self, ": ", loss));
  const TimePoint until = context_.clock.Now() + kPatience;
  while (!stopping_ && context_.clock.Now() < until) {
    std::this_thread::sleep_for(kPollInterval);
  }
}

// An error of work with other GPUs may be this one's own, which ends its worker whatever links say.
void StepLoop::LeavePeers(StepEnd* end) {
  (void)peer_device_->CheckPeers();  // whose loss may be behind the error
  const Status& shared = peer_device_->loss();
  peer_device_->ForgetAll();
  group_.reset();
  gpu_previous_.reset();
  gpu_next_.reset();
  if (end->why.ok() || stopping_) return;
  const Status own = context_.device.Synchronize();  // nobody else is waited for any more
  if (!own.ok() || IsOwnFailure(shared)) {
    *end = {.why = own.ok() ? shared : own, .lost_peer = {}};
  } else if (!shared.ok()) {
    end->lost_peer = LostPeer();
    if (!end->lost_peer) AwaitVerdict(end->why);
  }
}

}  // namespace thermocline::worker
