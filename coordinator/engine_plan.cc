// From complete membership to serving: the plan, each worker's part of it, the scheduler.
#include <algorithm>

#include "base/log.h"
#include "base/str.h"
#include "coordinator/engine.h"
#include "placement/context.h"
#include "placement/fit_cluster.h"
#include "placement/link_preset.h"
#include "placement/plan_tables.h"
#include "proto/codec.h"

namespace thermocline::coordinator {

Status Engine::StartSurvey() {
  cluster_ = membership_.profile();
  SetState(ServiceState::kPlanning);
  for (const WorkerId id : membership_.ids()) surveyed_.insert(id);
  if (options_.cluster) {
    const Status taken = TakeClusterFile();
    if (!taken.ok()) return taken.WithContext(options_.cluster_name);
  }
  survey_ = std::make_unique<LinkSurvey>(LinkSurvey::OfSome(
      cluster_.workers, surveyed_, TransportsAs(given_), clock_.Now(), first_round_));
  first_round_ = survey_->next_first_round();
  if (!survey_->done()) observer_.OnMeasuringLinks(*survey_);
  return ContinueSurvey();
}

// The file knows those whom it fits; links of the others remain to be measured.
Status Engine::TakeClusterFile() {
  TC_ASSIGN_OR_RETURN(placement::FittedCluster fitted,
                      placement::FitCluster(*options_.cluster, cluster_, TransportsAs(given_)));
  cluster_ = std::move(fitted.cluster);
  surveyed_ = std::move(fitted.unknown);
  if (!fitted.note.empty()) SayNews(Str(options_.cluster_name, ": ", fitted.note));
  return OkStatus();
}

Status Engine::ContinueSurvey() {
  for (auto& [worker, request] : survey_->TakeRequests(clock_.Now())) {
    TC_ASSIGN_OR_RETURN(request.address, AddressOf(request.peer, request.transport));
    TC_RETURN_IF_ERROR(SendToWorker(worker, request));
  }
  if (!survey_->done()) return OkStatus();
  TakeLinks(*survey_);
  surveyed_.clear();
  survey_.reset();
  return StartPlanning();
}

// A plan without links may name any transport, which later ones need not have.
placement::LinkKind Engine::LinkOfAll() const {
  return plan_.has_links() ? plan_.link : options_.plan.link;
}

// By what a plan that somebody gave says of its links; else what both ends of a pair have, or as
// the service has it for all. That a worker cannot be reached so is found out later.
placement::PairTransport Engine::TransportsAs(const placement::SaidTransports& said) const {
  placement::PairTransport transports = LinkOfAll();
  if (options_.plan.link_by_pair) {
    std::map<WorkerId, proto::Hello> hellos;
    for (const WorkerId id : membership_.ids()) hellos[id] = membership_.hello(id);
    transports = placement::PairTransport(
        [hellos = std::move(hellos), all = options_.plan.link](WorkerId a, WorkerId b) {
          return SharedTransport(hellos.at(a), hellos.at(b)).value_or(all);
        });
  }
  return placement::AsSaid(said, std::move(transports));
}

Status Engine::StartPlanning() {
  TC_ASSIGN_OR_RETURN(PlanJob job, JobFor(membership_.profile(), given_));
  job.plan_json = options_.plan_json;
  job.save_cluster_path = options_.save_cluster_path;
  job.neuron_order = placement::OrderId(order_, sources_.config.n_layer);
  observer_.OnPlanning(job);
  plan_task_ = std::make_unique<PlanTask>(sources_, std::move(job), [this] { mailbox_.Wake(); });
  return OkStatus();
}

// For those who are here, by what is known of them; links of another transport than they were
// measured with, and to those who came later, are assumed to be as such links usually are.
Result<PlanJob> Engine::JobFor(placement::ClusterProfile here,
                               const placement::SaidTransports& said) const {
  PlanJob job{.cluster = std::move(here)};
  const placement::PairTransport transports = TransportsAs(said);
  for (placement::WorkerProfile& worker : job.cluster.workers) {
    const auto* known = cluster_.FindWorker(worker.id);
    if (known == nullptr) continue;
    // Its share of its host may have become another since.
    const uint64_t memory_bytes =
        options_.cluster ? std::min(worker.memory_bytes, known->memory_bytes) : worker.memory_bytes;
    worker = *known;
    worker.memory_bytes = memory_bytes;
  }
  for (const placement::LinkProfile& link : cluster_.links) {
    const bool is_here = job.cluster.FindWorker(link.from) && job.cluster.FindWorker(link.to);
    const bool holds = is_here && link.transport == transports(link.from, link.to);
    if (holds) job.cluster.links.push_back(link);
  }
  TC_ASSIGN_OR_RETURN(const placement::LinkPreset between_hosts,
                      placement::FindLinkPreset(placement::kDefaultLinkPreset));
  TC_RETURN_IF_ERROR(placement::FillLinks(between_hosts, transports, &job.cluster));
  placement::AssumeRates(&job.cluster);
  job.options.request = options_.plan;
  job.options.request.epoch = {1};
  job.options.request.max_step_tokens = options_.max_step_tokens;
  job.options.n_streams = options_.n_streams;
  TC_ASSIGN_OR_RETURN(job.options.n_context,
                      placement::DepthToPlanFor(sources_.config, job.options.request,
                                                options_.n_streams, options_.n_context));
  job.options.latency_weight = options_.latency_weight;
  job.options.with_bound = false;
  job.options.policy = options_.policy;
  return job;
}

void Engine::HandlePlanned() {
  std::erase_if(dropped_tasks_, [](const auto& task) { return task->Take().has_value(); });
  if (plan_task_ == nullptr) return;
  auto planned = plan_task_->Take();
  if (!planned) return;
  plan_task_.reset();
  const Status status = scheduler_      ? OnNextPlan(std::move(*planned))
                        : planned->ok() ? StartLoading(**planned)
                                        : WhyNoPlan(planned->status());
  if (!status.ok()) Fail(status);
}

Status Engine::WhyNoPlan(const Status& why) const {
  return options_.plan_json.empty() ? why : why.WithContext(options_.plan_name);
}

Status Engine::StartLoading(const PlanOutcome& planned) {
  plan_ = planned.plan;
  served_ = planned;
  if (!planned.order.layers.empty()) TakeOrder(plan_, planned.order);
  TakeHeats(planned);
  SetExpected(planned);
  TC_ASSIGN_OR_RETURN(const Assignments assignments, AssignmentsOfAll());
  NoteLinks(planned.cluster);
  loading_since_ = clock_.Now();
  membership_.OnPlan(plan_, clock_.Now());
  SetState(ServiceState::kLoading);
  observer_.OnPlan(planned);
  if (!planned.order_note.empty()) SayNews(Str(options_.plan_name, ": ", planned.order_note));
  return SendPlan(assignments);
}

// All are made before the first is sent: an impossible one must not start a load.
Result<Engine::Assignments> Engine::AssignmentsOfAll() const {
  Assignments assignments;
  for (const WorkerId worker : membership_.ids()) {
    TC_ASSIGN_OR_RETURN(proto::AssignPlan assignment, AssignmentOf(worker));
    assignments.push_back({worker, std::move(assignment)});
  }
  return assignments;
}

Status Engine::SendPlan(const Assignments& assignments) {
  for (const auto& [worker, assignment] : assignments) {
    Status sent = SendTables(worker, assignment);
    if (sent.ok()) sent = SendToWorker(worker, assignment);
    if (!sent.ok()) TC_RETURN_IF_ERROR(Lose(worker, sent));
    if (loss_ && !change_) return OkStatus();  // of this very plan, so another one comes
  }
  for (const auto& [worker, assignment] : assignments) {
    const bool leads = assignment.stage >= 0 && assignment.helper < 0;
    if (!leads || !membership_.contains(worker)) continue;
    const placement::StagePlan& stage = plan_.stages[static_cast<size_t>(assignment.stage)];
    for (const std::string& note : GroupOf(stage).notes) LogInfo("coordinator", note);
    const std::string note = GpuLinkBehind(static_cast<size_t>(assignment.stage)).note;
    if (!note.empty()) LogInfo("coordinator", note);
    if (!assignment.nccl_helpers.empty()) membership_.UseUpNcclId(worker);
    if (!assignment.next_nccl_id.empty()) membership_.UseUpNcclLinkId(worker);
  }
  return OkStatus();
}

const proto::Hello* Engine::HelloOfMember(WorkerId worker) const {
  return membership_.contains(worker) ? &membership_.hello(worker) : nullptr;
}

GpuGroup Engine::GroupOf(const placement::StagePlan& stage) const {
  return FindGpuGroup(stage, [this](WorkerId worker) { return HelloOfMember(worker); });
}

GpuLink Engine::GpuLinkBehind(size_t stage) const {
  if (stage + 1 == plan_.stages.size()) return {};
  return FindGpuLink(plan_, stage, [this](WorkerId worker) { return HelloOfMember(worker); });
}

Result<proto::AssignPlan> Engine::AssignmentOf(WorkerId worker) const {
  proto::AssignPlan assignment{.plan = plan_,
                               .stage = -1,
                               .model_path = options_.model_path,
                               .model_fingerprint = options_.plan.model_fingerprint,
                               .model_bytes = options_.model_bytes,
                               .header_bytes = options_.header_bytes,
                               .weights_from = options_.weights_from,
                               .bulk_endpoint = options_.bulk_endpoint,
                               .ffn = options_.plan.ffn,
                               .sparsity_path = options_.sparsity_path,
                               .max_step_tokens = options_.max_step_tokens,
                               .dump_logits_dir = options_.dump_logits_dir,
                               .trace = trace_ != nullptr};
  for (size_t i = 0; i < plan_.stages.size(); ++i) {
    if (plan_.stages[i].lead == worker) {
      assignment.stage = static_cast<int>(i);
      TC_RETURN_IF_ERROR(AddressNeighbours(i, &assignment));
    }
    const auto& helpers = plan_.stages[i].helpers;
    for (size_t h = 0; h < helpers.size(); ++h) {
      if (helpers[h].worker != worker) continue;
      assignment.stage = static_cast<int>(i);
      assignment.helper = static_cast<int>(h);
      TC_ASSIGN_OR_RETURN(assignment.lead_address,
                          AddressOf(plan_.stages[i].lead, plan_.WayOf(helpers[h].to_lead).link));
    }
  }
  if (assignment.stage >= 0) {
    const placement::StagePlan& stage = plan_.stages[static_cast<size_t>(assignment.stage)];
    assignment.nccl_helpers = GroupOf(stage).helpers;
    if (!assignment.nccl_helpers.empty()) {
      assignment.nccl_id = membership_.hello(stage.lead).nccl_id;
    }
  }
  assignment.n_neuron_tables = static_cast<int>(LayersWithTable(assignment).size());
  return assignment;
}

// Of the lead of stage `i`.
Status Engine::AddressNeighbours(size_t i, proto::AssignPlan* assignment) const {
  if (i > 0) {
    const placement::StagePlan& previous = plan_.stages[i - 1];
    TC_ASSIGN_OR_RETURN(assignment->previous_address,
                        AddressOf(previous.lead, plan_.WayOf(previous.to_next).link));
    assignment->previous_nccl_id = GpuLinkBehind(i - 1).nccl_id;
  }
  if (i + 1 < plan_.stages.size()) {
    TC_ASSIGN_OR_RETURN(
        assignment->next_address,
        AddressOf(plan_.stages[i + 1].lead, plan_.WayOf(plan_.stages[i].to_next).link));
    assignment->next_nccl_id = GpuLinkBehind(i).nccl_id;
  }
  for (const placement::HelperPlan& helper : plan_.stages[i].helpers) {
    TC_ASSIGN_OR_RETURN(std::string address,
                        AddressOf(helper.worker, plan_.WayOf(helper.to_lead).link));
    assignment->helper_addresses.push_back(std::move(address));
  }
  return OkStatus();
}

Result<std::string> Engine::AddressOf(WorkerId worker, placement::LinkKind transport) const {
  return DataAddressOf(membership_.NameOf(worker), membership_.hello(worker), transport);
}

SchedulerOptions Engine::ServingOptions() const {
  // However many stages there are, the first one's queue takes all steps under way.
  const int n_batches = std::min(plan_.batches_under_way(), proto::kMaxStepsInFlight - 1);
  return {.epoch = plan_.epoch,
          .n_ctx = plan_.n_ctx,
          .n_vocab = sources_.config.n_vocab,
          .page_tokens = plan_.kv.page_tokens,
          .n_pages = plan_.kv.n_pages,
          .n_batches = n_batches,
          .max_in_flight = options_.max_in_flight > 0 ? options_.max_in_flight : n_batches + 1,
          .max_step_tokens = options_.max_step_tokens,
          .prefill_chunk = options_.prefill_chunk,
          // SubmitAll keeps arrivals within max_waiting and what can start at once; preempted
          // sequences wait besides.
          .max_waiting = options_.max_waiting + 2 * options_.max_running,
          .max_running = options_.max_running};
}

void Engine::StartServing() {
  const SchedulerOptions scheduler = ServingOptions();
  scheduler_ = std::make_unique<Scheduler>(scheduler);
  {
    const MutexLock lock(mutex_);
    limits_ = scheduler;
  }
  SetState(ServiceState::kReady);
  LogInfo("coordinator", Str("serving", Kv("epoch", plan_.epoch), Kv("stages", plan_.stages.size()),
                             Kv("n_ctx", plan_.n_ctx), Kv("kv_tokens", plan_.kv.n_tokens())));
  observer_.OnServing(plan_);
}

void Engine::SetExpected(const PlanOutcome& planned) {
  ExpectedSpeed expected{.n_sequences = planned.forecast.n_sequences,
                         .step_s = planned.forecast.step_s,
                         .n_streams = planned.speed.n_streams,
                         .tokens_per_s = planned.speed.all_tokens_per_s,
                         .one_stream_tokens_per_s = planned.speed.one_tokens_per_s};
  for (const auto& stage : planned.forecast.stages) expected.stage_s.push_back(stage.seconds);
  const MutexLock lock(mutex_);
  status_.expected = std::move(expected);
}

void Engine::NoteLinks(const placement::ClusterProfile& cluster) {
  plan_status_.links.clear();
  placement::ForEachLink(plan_,
                         [&](WorkerId from, WorkerId to, const placement::LinkChoice& choice) {
                           const placement::LinkWay way = plan_.WayOf(choice);
                           LinkStatus& link = plan_status_.links.emplace_back();
                           link = {.from = from, .to = to, .transport = way.link, .wire = way.wire};
                           const auto* known = cluster.FindLink(from, to);
                           if (known == nullptr || known->transport != way.link) return;
                           link.latency_s = known->latency_s;
                           link.bytes_per_s = known->bytes_per_s;
                         });
}

// Whoever sees the state sees the workers and counts that led to it. A drain that was asked for
// meanwhile stays.
void Engine::SetState(ServiceState state) {
  Publish();
  const MutexLock lock(mutex_);
  if (status_.state != ServiceState::kDraining) status_.state = state;
}

}  // namespace thermocline::coordinator
