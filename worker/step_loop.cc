#include "worker/step_loop.h"

#include <pthread.h>

#include <algorithm>
#include <utility>

#include "base/cpu_list.h"
#include "base/host_info.h"
#include "base/log.h"
#include "base/str.h"
#include "base/units.h"
#include "comm/backoff.h"
#include "proto/codec.h"

namespace thermocline::worker {
namespace {

using std::chrono::milliseconds;

// Of work that does not go on, how often the device is asked whether it answers: rarely beside a
// step, often beside a device's own patience.
constexpr Duration kDeviceLookInterval = std::chrono::seconds(2);
constexpr Duration kProgressInterval = milliseconds(100);
// Between two looks at a frame that is on its way while no batch waits: a first frame needs two or
// three (the connection, the receiver's consent), one that a busy receiver lets wait many.
constexpr Duration kFlushIntervalMin = std::chrono::microseconds(20);
constexpr Duration kFlushIntervalMax = milliseconds(1);

uint64_t MicrosSince(const Clock& clock, TimePoint begin) {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(clock.Now() - begin).count());
}

}  // namespace

StepLoop::StepLoop(const StepContext& context, Assignment assignment,
                   std::function<void(StepEnd)> on_end, HeldModel held)
    : context_(context),
      assignment_(std::move(assignment)),
      on_end_(std::move(on_end)),
      submitted_(proto::kMaxQueuedSteps),
      prior_(std::move(held)),
      thread_([this] { Run(); }) {}

StepLoop::~StepLoop() { Join(); }

void StepLoop::Join() {
  stopping_ = true;
  submitted_.Close();
  if (thread_.joinable()) thread_.join();
}

HeldModel StepLoop::End() {
  Join();
  HeldModel held;
  if (stage_ == nullptr && helper_ == nullptr) return held;
  held.shard = stage_ != nullptr ? stage_->TakeShard() : helper_->TakeShard();
  stage_.reset();  // with its keys, values and scratch
  helper_.reset();
  probe_hop_.reset();
  held.model = std::move(model_);
  return held;
}

bool StepLoop::Submit(proto::StepBatch batch) { return submitted_.TryPush(std::move(batch)); }

void StepLoop::Probe(const proto::ProbeLink& request) {
  const TimePoint now = context_.clock.Now();
  const MutexLock lock(mutex_);
  probe_ = {request, now + std::chrono::microseconds(request.patience_us)};
  has_probe_ = true;
}

// Without a report the link is assumed, so it may be lost.
bool StepLoop::MakeProbe() {
  if (!has_probe_) return false;
  std::optional<WaitingProbe> probe;
  {
    const MutexLock lock(mutex_);
    probe = std::exchange(probe_, std::nullopt);
    has_probe_ = false;
  }
  if (!probe) return false;
  const proto::ProbeLink& request = probe->request;
  proto::LinkReport report{
      .round = request.round, .peer = request.peer, .error = "steps left it no time"};
  const TimePoint begin = context_.clock.Now();
  if (begin <= probe->begin_by) {
    const ProbeContext context{context_.clock,
                               *context_.ports.Of(request.transport),
                               assignment_.self,
                               {},
                               probe_hop_ ? &*probe_hop_ : nullptr};
    report = MeasureLink(context, request, stopping_);
  }
  CountWait("measure a link", begin, context_.clock.Now());
  const Status sent = SendControl(report);
  if (!sent.ok()) LogDebug("worker", Str("report not sent: ", sent));
  return true;
}

void StepLoop::Run() {
  pthread_setname_np(pthread_self(), "tc-step");
  Status status = Prepare();
  if (status.ok()) status = helper_ != nullptr ? HelpUntilStopped() : ServeUntilStopped();
  if (stage_ != nullptr || helper_ != nullptr) LogFfn();
  StepEnd end{.why = status, .lost_peer = {}};
  if (status.code() == StatusCode::kUnavailable) end.lost_peer = LostPeer();
  if (peer_device_) LeavePeers(&end);
  // Before links close, which others will take for a loss of this worker.
  if (!status.ok() && !stopping_) on_end_(std::move(end));
  // Links belong to this thread, MPI ones strictly so.
  previous_.reset();
  next_.reset();
  part_links_.clear();
}

std::optional<WorkerId> StepLoop::LostPeer() const {
  if (unreachable_) return unreachable_;
  for (const auto* link : {&previous_, &next_}) {
    if (*link != nullptr && (*link)->is_lost()) return (*link)->peer();
  }
  for (const auto& link : part_links_) {
    if (link->is_lost()) return link->peer();
  }
  return std::nullopt;
}

Status StepLoop::Prepare() {
  TC_RETURN_IF_ERROR(RunOn(context_.cpus));
  // The fetch counts the bytes that come, the stage then those it reads from its copy.
  const auto on_progress = [&](uint64_t done, uint64_t total) {
    return ReportProgress(done, total);
  };
  TC_RETURN_IF_ERROR(OpenModelOfPlan(on_progress));
  if (assignment_.meets_gpus()) {
    TC_RETURN_IF_ERROR(CheckWays(context_.gpu_ways, context_.device));
    peer_device_.emplace(context_.device, context_.clock, stopping_);
  }
  TC_RETURN_IF_ERROR(assignment_.is_helper() ? LoadHelper(on_progress) : LoadStage(on_progress));
  if (!device().reads_host_memory()) {
    probe_hop_.emplace(device(), kLeastProbeBytes);
    TC_RETURN_IF_ERROR(probe_hop_->Prepare());
  }
  TC_RETURN_IF_ERROR(OpenLinks());
  const Shard& shard = helper_ != nullptr ? helper_->shard() : stage_->shard();
  firing_ = std::make_unique<FiringCounter>(shard, assignment_.stage().layers);
  helper_ != nullptr ? helper_->set_firing(firing_.get()) : stage_->set_firing(firing_.get());
  traffic_at_start_ = context_.device.ops().traffic();
  if (!context_.device.reads_host_memory()) {
    LogInfo("worker", HoldingsText(context_.device, context_.holdings));
  }
  TC_RETURN_IF_ERROR(SendControl(ReadyMessage()));
  return assignment_.meets_gpus() ? MeetGpus() : OkStatus();
}

Status StepLoop::OpenModelOfPlan(const LoadProgressFn& on_progress) {
  if (prior_.model) {
    model_ = std::move(*prior_.model);
    TC_RETURN_IF_ERROR(ReassignModel(assignment_, context_.clock, stopping_, on_progress, &model_));
  } else {
    TC_ASSIGN_OR_RETURN(model_,
                        OpenAssignedModel(assignment_, context_.clock, stopping_, on_progress));
  }
  return OkStatus();
}

proto::Ready StepLoop::ReadyMessage() const {
  const proto::AssignPlan& message = assignment_.message;
  const model::LayerRange& layers = assignment_.stage().layers;
  const LoadReport& report = helper_ != nullptr ? helper_->load_report() : stage_->load_report();
  std::string note = report.note;
  if (message.weights_from == proto::WeightsFrom::kCoordinator) {
    note += Str(note.empty() ? "" : ", ", "fetched ", FormatBytes(model_.fetched_bytes));
  }
  if (report.kept_bytes > 0) {
    LogInfo("worker", Str("epoch ", message.plan.epoch, ": kept ", FormatBytes(report.kept_bytes),
                          ", read ", FormatBytes(report.read_bytes)));
  }
  const bool leads_group = assignment_.is_in_group() && helper_ == nullptr;
  const bool has_gpu_behind = !message.next_nccl_id.empty();
  return {.epoch = message.plan.epoch,
          .owned_bytes = report.owned_bytes,
          .read_bytes = std::max(report.read_bytes, model_.fetched_bytes),
          .peak_rss_bytes = PeakRssBytes(),
          .neuron_order = model::ChecksumOf(model_.neuron_order, layers.begin, layers.end),
          .note = std::move(note),
          .kept_bytes = report.kept_bytes,
          // The places of this plan are used up.
          .nccl_id = leads_group ? context_.gpu_ways->MakeId() : "",
          .nccl_link_id = has_gpu_behind ? context_.gpu_ways->MakeId() : ""};
}

Status StepLoop::LoadStage(const LoadProgressFn& on_progress) {
  const proto::AssignPlan& message = assignment_.message;
  if (!message.dump_logits_dir.empty() && assignment_.stage().layers.has_head) {
    TC_ASSIGN_OR_RETURN(logits_sink_, MakeLogitsDirectory(message.dump_logits_dir));
  }
  const StageOptions options{.layers = assignment_.stage().layers,
                             .ffn = assignment_.ffn(),
                             .kv = message.plan.kv,
                             .max_step_tokens = message.max_step_tokens,
                             .n_ctx = message.plan.n_ctx,
                             .prior = &prior_.shard,
                             .tracer = context_.tracer,
                             .graph_bytes = context_.holdings.graph_bytes};
  TC_ASSIGN_OR_RETURN(
      stage_, Stage::Create(model_.source(), options, device(), logits_sink_.get(), on_progress));
  return OkStatus();
}

Status StepLoop::LoadHelper(const LoadProgressFn& on_progress) {
  const HelperOptions options{.layers = assignment_.stage().layers,
                              .ffn = assignment_.ffn(),
                              .max_step_tokens = assignment_.message.max_step_tokens,
                              .kv = assignment_.message.plan.kv,
                              .prior = &prior_.shard,
                              .tracer = context_.tracer};
  TC_ASSIGN_OR_RETURN(helper_,
                      HelperStage::Create(model_.source(), options, device(), on_progress));
  return OkStatus();
}

Status StepLoop::OpenLinks() {
  const proto::AssignPlan& message = assignment_.message;
  const auto& stages = message.plan.stages;
  for (comm::DataPort* const port : {context_.ports.mpi, context_.ports.zmq}) {
    if (port != nullptr) port->SetSelf(assignment_.self);
  }
  const auto at = static_cast<size_t>(message.stage);
  const int first_layer = stages[at].layers.begin;
  if (assignment_.is_helper()) {
    TC_ASSIGN_OR_RETURN(auto link,
                        OpenLink(stages[at].lead, message.lead_address, assignment_.WayToLead()));
    part_links_.push_back(std::move(link));
    lead_ = std::make_unique<HelperLink>(first_layer, part_links_.back().get());
    return OkStatus();
  }
  if (!message.previous_address.empty()) {
    TC_ASSIGN_OR_RETURN(previous_, OpenLink(stages[at - 1].lead, message.previous_address,
                                            assignment_.WayToPrevious()));
  }
  if (!message.next_address.empty()) {
    TC_ASSIGN_OR_RETURN(
        next_, OpenLink(stages[at + 1].lead, message.next_address, assignment_.WayToNext()));
  }
  if (!stages[at].is_split()) return OkStatus();
  const auto& helpers = stages[at].helpers;
  if (message.helper_addresses.size() != helpers.size()) {
    return DataLoss(Str("plan without the addresses of all helpers:", Kv("helpers", helpers.size()),
                        Kv("addresses", message.helper_addresses.size())));
  }
  std::vector<ActivationLink*> group;
  for (size_t h = 0; h < helpers.size(); ++h) {
    TC_ASSIGN_OR_RETURN(auto link, OpenLink(helpers[h].worker, message.helper_addresses[h],
                                            assignment_.WayToHelper(h)));
    part_links_.push_back(std::move(link));
    if (assignment_.IsInGroup(static_cast<int>(h))) group.push_back(part_links_.back().get());
  }
  std::vector<std::vector<ActivationLink*>> members;
  for (const std::vector<size_t>& layer : assignment_.LinkHelpers()) {
    auto& links = members.emplace_back();
    for (const size_t h : layer) links.push_back(part_links_[h].get());
  }
  std::vector<ActivationLink*> heads;
  for (const size_t h : assignment_.LinkHeads()) heads.push_back(part_links_[h].get());
  helpers_ = std::make_unique<LeadLinks>(message.plan.epoch, first_layer, std::move(members),
                                         std::move(group), heads);
  stage_->set_exchange(helpers_.get());
  return OkStatus();
}

Result<std::unique_ptr<ActivationLink>> StepLoop::OpenLink(WorkerId peer,
                                                           const std::string& address,
                                                           placement::LinkWay way) {
  auto link = context_.ports.Of(way.link)->Open(peer, address);
  if (link.status().code() == StatusCode::kUnavailable) unreachable_ = peer;
  if (!link.ok()) return link.status();
  const LinkContext context{.clock = context_.clock,
                            .stopping = stopping_,
                            .wire = way.wire,
                            .n_embd = model_.config.n_embd,
                            .epoch = assignment_.message.plan.epoch,
                            .n_stale = &context_.counters.stale_frames};
  return std::make_unique<ActivationLink>(context, *std::move(link));
}

// At the end, since auto learns while it serves.
void StepLoop::LogFfn() const {
  const std::string text = helper_ != nullptr ? helper_->FfnText() : stage_->FfnText();
  if (text.empty()) return;  // it has heads only
  const kernels::Traffic read = context_.device.ops().traffic() - traffic_at_start_;
  if (read.n_neurons == 0) return LogInfo("worker", text);
  LogInfo("worker", Str(text, Kv("density", read.density())));
}

Status StepLoop::ReportProgress(uint64_t bytes_done, uint64_t bytes_total) {
  if (stopping_) return Aborted("stopped while loading");
  const TimePoint now = context_.clock.Now();
  if (bytes_done < bytes_total && now - last_progress_ < kProgressInterval) return OkStatus();
  last_progress_ = now;
  const Status sent =
      SendControl(proto::LoadProgress{assignment_.message.plan.epoch, bytes_done, bytes_total});
  if (!sent.ok()) LogDebug("worker", Str("progress not sent: ", sent));
  return OkStatus();
}

Status StepLoop::ServeUntilStopped() {
  std::optional<comm::Backoff> backoff(std::in_place);
  TimePoint waits_since = context_.clock.Now(), looked = waits_since;
  while (!stopping_) {
    const bool idle = under_way_.empty();
    if (idle && MakeProbe()) waits_since = context_.clock.Now();
    TC_RETURN_IF_ERROR(BeginNext(idle ? kPollInterval : Duration{0}));
    const TimePoint begin = context_.clock.Now();
    const uint64_t n_ops = stage_->n_ops_done();
    TC_ASSIGN_OR_RETURN(const bool done, stage_->Advance());
    if (done || stage_->n_ops_done() != n_ops) {
      CountWait(idle ? "wait for a batch" : "wait for helpers", waits_since, begin);
      context_.counters.compute_us += MicrosSince(context_.clock, begin);
      if (done) TC_RETURN_IF_ERROR(EndBatch());
      waits_since = context_.clock.Now();
      backoff.emplace();
    } else {
      if (peer_device_) TC_RETURN_IF_ERROR(peer_device_->CheckPeers());
      if (!idle) TC_RETURN_IF_ERROR(LookAtDevice(waits_since, &looked));
      if (!idle) backoff->Pause(begin + kPollInterval);
    }
  }
  return OkStatus();
}

// Looks at marks have no patience: helpers that wait for x of a device that hangs would wait for
// ever, and this worker for them. A device that has nothing to do answers at once; of one that
// hangs a stop waits for the end of the device's patience, as it does where the stage is given up.
Status StepLoop::LookAtDevice(TimePoint waits_since, TimePoint* looked) {
  const TimePoint now = context_.clock.Now();
  if (now - std::max(waits_since, *looked) < kDeviceLookInterval) return OkStatus();
  *looked = now;
  return device().Synchronize();
}

void StepLoop::CountWait(std::string_view what, TimePoint begin, TimePoint end) {
  using std::chrono::duration_cast;
  using std::chrono::microseconds;
  const auto took_us = duration_cast<microseconds>(end - begin).count();
  context_.counters.wait_us += static_cast<uint64_t>(took_us);
  Tracer* const tracer = context_.tracer;
  if (tracer == nullptr || took_us == 0) return;
  tracer->Add({.name = tracer->Name(what), .track = tracer->Track(kDeviceTrack)}, begin, end);
}

Status StepLoop::BeginNext(Duration wait) {
  const bool gives_way = has_probe_ && !under_way_.empty();
  if (!held_ && !gives_way) {
    TC_RETURN_IF_ERROR(TakeNext(wait));
  } else if (next_ != nullptr) {
    // The links to the helpers may be of another transport, whose calls move nothing of this one.
    TC_RETURN_IF_ERROR(next_->Flush().status());
  }
  if (!held_ || gives_way || !stage_->CanBegin(*held_)) return OkStatus();
  const TimePoint now = context_.clock.Now();
  under_way_.push_back({*std::exchange(held_, std::nullopt), now, now});
  const proto::StepBatch& batch = under_way_.back().batch;
  const bool by_gpu = gpu_previous_ != nullptr && batch.n_tokens() > 0 && !previous_->has_payload();
  TensorView input = TensorView::F32(nullptr, batch.n_tokens(), model_.config.n_embd);
  if (previous_ != nullptr && !by_gpu) {
    TC_ASSIGN_OR_RETURN(input, previous_->Activation(batch.n_tokens()));
  }
  TC_RETURN_IF_ERROR(stage_->Begin(batch, input));
  return by_gpu ? gpu_previous_->Receive(stage_->input_place()) : OkStatus();
}

Status StepLoop::TakeNext(Duration wait) {
  proto::StepBatch batch;
  TC_ASSIGN_OR_RETURN(const bool arrived,
                      previous_ == nullptr ? NextSubmitted(wait, &batch) : NextFrame(wait, &batch));
  if (!arrived) return OkStatus();
  if (batch.epoch < assignment_.message.plan.epoch) {
    ++context_.counters.stale_frames;
    return OkStatus();
  }
  held_ = std::move(batch);
  return OkStatus();
}

Result<bool> StepLoop::NextSubmitted(Duration wait, proto::StepBatch* batch) {
  return AwaitFlushing(wait, [&](Duration most) -> Result<bool> {
    if (most <= Duration{0} && submitted_.size() == 0) return false;
    auto submitted = submitted_.Pop(most);
    if (submitted) *batch = std::move(*submitted);
    return submitted.has_value();
  });
}

Result<bool> StepLoop::NextFrame(Duration wait, proto::StepBatch* batch) {
  TC_ASSIGN_OR_RETURN(const bool arrived, AwaitFlushing(wait, [&](Duration most) {
                        return most <= Duration{0} ? previous_->TryReceive()
                                                   : previous_->Receive(most);
                      }));
  if (!arrived) return false;
  TC_ASSIGN_OR_RETURN(auto sent, previous_->Header<proto::StepBatch>());
  if (!sent) return false;
  *batch = *std::move(sent);
  return true;
}

Result<bool> StepLoop::AwaitFlushing(Duration wait,
                                     const std::function<Result<bool>(Duration)>& attempt) {
  const TimePoint until = context_.clock.Now() + wait;
  for (Duration pause = kFlushIntervalMin;; pause = std::min(2 * pause, kFlushIntervalMax)) {
    bool flushed = true;
    if (next_ != nullptr) {
      TC_ASSIGN_OR_RETURN(flushed, next_->Flush());
    }
    const Duration left = until - context_.clock.Now();
    TC_ASSIGN_OR_RETURN(const bool arrived, attempt(flushed ? left : std::min(pause, left)));
    if (arrived || stopping_ || context_.clock.Now() >= until) return arrived;
  }
}

Status StepLoop::HelpUntilStopped() {
  TimePoint waits_since = context_.clock.Now();
  while (!stopping_) {
    if (MakeProbe()) waits_since = context_.clock.Now();
    TC_ASSIGN_OR_RETURN(auto part, lead_->Next(kPollInterval));
    if (peer_device_) TC_RETURN_IF_ERROR(peer_device_->CheckPeers());
    if (!part) continue;
    CountWait("wait for the lead", waits_since, context_.clock.Now());
    TC_RETURN_IF_ERROR(Help(*std::move(part)));
    waits_since = context_.clock.Now();
  }
  return OkStatus();
}

Status StepLoop::Help(proto::Part part) {
  const TimePoint begin = context_.clock.Now();
  const StepId step = part.step;
  TC_RETURN_IF_ERROR(helper_->Run(std::move(part), lead_.get()));
  context_.counters.compute_us += MicrosSince(context_.clock, begin);
  if (step != helped_step_) ++context_.counters.steps_done;
  helped_step_ = step;
  CountSent();
  TellFiring();
  return OkStatus();
}

// Nothing depends on its arrival.
void StepLoop::TellFiring() {
  const Status told = firing_->Report(assignment_.message.plan.epoch, context_.clock.Now(),
                                      [&](const auto& message) { return SendControl(message); });
  if (!told.ok()) LogDebug("worker", Str("firing counts not sent: ", told));
}

void StepLoop::CountSent() {
  uint64_t n_bytes = next_ == nullptr ? 0 : next_->stats().bytes_sent;
  for (const auto& link : part_links_) n_bytes += link->stats().bytes_sent;
  context_.counters.link_bytes_sent = n_bytes;
}

Status StepLoop::EndBatch() {
  UnderWay& done = under_way_.front();
  TraceBatch(done);
  done.batch.stage_compute_us.push_back(
      static_cast<uint32_t>(MicrosSince(context_.clock, done.since)));
  context_.counters.kv_pages_used = stage_->kv_pages_used();
  ++context_.counters.steps_done;
  TC_RETURN_IF_ERROR(stage_->is_last() ? SendResult(&done.batch) : SendOn(&done.batch));
  stage_->Finish();
  under_way_.pop_front();
  if (!under_way_.empty()) under_way_.front().since = context_.clock.Now();
  CountSent();
  TellFiring();
  return OkStatus();
}

// Batches under way overlap, so they take turns at as many tracks as there can be of them.
void StepLoop::TraceBatch(const UnderWay& done) const {
  Tracer* const tracer = context_.tracer;
  if (tracer == nullptr) return;
  const uint64_t turn = context_.counters.steps_done % kMaxRuns;
  tracer->Add({.name = tracer->Name("batch"),
               .track = tracer->Track(Str("batches ", turn)),
               .step = done.batch.step,
               .n_rows = done.batch.n_tokens()},
              done.begun, tracer->Now());
}

Status StepLoop::SendOn(proto::StepBatch* batch) {
  const TimePoint begin = context_.clock.Now();
  const StepId step = batch->step;
  const TensorView x = stage_->activation();
  const bool by_gpu = gpu_next_ != nullptr && stage_->activation_stays();
  TC_RETURN_IF_ERROR(by_gpu ? gpu_next_->Send(std::move(*batch), x)
                            : next_->Send(std::move(*batch), x));
  Tracer* const tracer = context_.tracer;
  if (tracer == nullptr) return OkStatus();
  tracer->Add({.name = tracer->Name("send to the next stage"),
               .track = tracer->Track(kLinksTrack),
               .step = step,
               .n_rows = x.n_rows,
               .n_bytes = x.bytes()},
              begin, tracer->Now());
  return OkStatus();
}

Status StepLoop::SendResult(proto::StepBatch* batch) {
  return SendControl(
      proto::StepResult{batch->epoch, batch->step, stage_->results(), batch->stage_compute_us});
}

Status StepLoop::SendControl(const proto::Message& message) {
  std::vector<std::byte> bytes;
  proto::Encode(message, &bytes);
  return context_.mailbox.Send(comm::kServerPeer, {bytes, {}});
}

}  // namespace thermocline::worker
