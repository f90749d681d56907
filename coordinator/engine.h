// The coordinator's heart: one thread that turns requests into steps and answers into tokens.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/status.h"
#include "comm/mailbox.h"
#include "coordinator/generation_service.h"
#include "coordinator/gpu_group.h"
#include "coordinator/link_survey.h"
#include "coordinator/live_heat.h"
#include "coordinator/membership.h"
#include "coordinator/plan_check.h"
#include "coordinator/plan_task.h"
#include "coordinator/scheduler.h"
#include "coordinator/trace_recorder.h"
#include "placement/pair_transport.h"
#include "placement/plan.h"
#include "placement/plan_links.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

// When the plan may change while the service runs.
enum class ReplanMode : uint8_t {
  kAuto,  // as kNow, when somebody joins, and when the hot neurons are others than before
  kNow,   // when somebody asks for it, leaves or is lost
  kOff,   // never
};

struct EngineOptions {
  std::vector<ExpectedWorker> expected;  // at least one
  std::string build;

  std::string plan_json;  // a hand-written plan; "": the planner searches for one
  std::string plan_name,
      cluster_name;             // of the flags and files that plan_json and cluster are from
  placement::PlanRequest plan;  // context, parallelism, KV, link, wire, fingerprint, FFN
  placement::SplitPolicy policy = placement::SplitPolicy::kOptimal;
  double latency_weight = 1;                         // of the planner's objective, 0..1
  std::optional<placement::ClusterProfile> cluster;  // instead of measuring links
  std::string save_cluster_path;  // where to write what is planned for; "": nowhere
  int n_streams = 1;  // sequences that are expected to decode at the same time, 1 or more
  std::optional<int64_t> n_context;  // of each, that plans are made for; else the mean of what fits
  std::string sparsity_path;         // on the workers' hosts; "": what the model file has

  std::string model_path;  // on the workers' hosts
  uint64_t model_bytes = 0;
  uint64_t header_bytes = 0;
  proto::WeightsFrom weights_from = proto::WeightsFrom::kFile;
  std::string bulk_endpoint;  // unless weights come from files

  ReplanMode replan = ReplanMode::kAuto;
  // Between two looks at which neurons are hot. > 0. Counts come every few seconds, and a plan
  // takes seconds to make.
  Duration replan_interval = std::chrono::minutes(1);

  int max_waiting = 256;        // accepted sequences without KV; more are refused
  int max_running = 256;        // sequences with KV
  int max_in_flight = 0;        // steps; 0: one more than keep every stage busy, within
                                // proto::kMaxStepsInFlight
  int max_step_tokens = 512;    // 2..proto::kMaxStepTokens
  int prefill_chunk = 128;      // 1..max_step_tokens
  std::string dump_logits_dir;  // diagnostics; "" = off

  Duration join_timeout = std::chrono::seconds(60);
  Duration heartbeat_interval = std::chrono::milliseconds(500);
  Duration heartbeat_expiry = std::chrono::seconds(5);
  Duration drain_deadline = std::chrono::seconds(30);
  // Without an answer for this long (or for 20 times the slowest step so far, if that is longer)
  // while steps are outstanding, the service ends: a frame was lost or a stage hangs although its
  // heartbeats go on. > 0. The first long step of a large model on slow machines takes minutes.
  Duration step_timeout = std::chrono::minutes(5);
  // Without another byte of what a worker has to load for this long it hangs, and the plan that
  // waits for it is given up. > 0. Fetching or re-laying the largest tensor there is, some
  // gigabytes, over a slow mount takes less.
  Duration load_timeout = std::chrono::minutes(5);

  // kInvalidArgument names the flag or the field, its value and its range.
  Status Validate() const;
};

// Hears of lifecycle events, for the terminal and for main; called on the engine thread, must not
// wait.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnWorkerJoined(const WorkerStatus&) {}
  virtual void OnWorkerRefused(const std::string& /*host*/, const Status&) {}
  // A spare worker is gone; the service goes on.
  virtual void OnWorkerLeft(const WorkerStatus&, const Status& /*why*/) {}
  virtual void OnMeasuringLinks(const LinkSurvey&) {}
  virtual void OnPlanning(const PlanJob&) {}
  virtual void OnPlan(const PlanOutcome&) {}
  virtual void OnLoadProgress(const std::vector<WorkerStatus>&) {}
  virtual void OnReady(const WorkerStatus&, const proto::Ready&) {}
  virtual void OnServing(const placement::Plan&) {}
  // What is going on with changes of the plan, in one line for people.
  virtual void OnNews(const std::string& /*line*/) {}
  // Serves on over a plan of a later epoch.
  virtual void OnPlanChanged(const placement::Plan&, const PlanStatus&) {}
  // Work was lost and the engine has ended; `why` is one readable line.
  virtual void OnFailed(const Status& /*why*/) {}
  // Drain or Stop has ended the engine.
  virtual void OnStopped() {}
};

// Owns the sequences, the membership and the plan; alone receives from the mailbox. Submit, Cancel,
// status, n_ctx, Drain and Stop are thread-safe.
//
//   kStarting -> (all joined) kPlanning -> kLoading -> (all ready) kReady -> kDraining,
//   or kFailed from anywhere
class Engine final : public GenerationService {
 public:
  // What it runs on and for; all outlive the engine. `options` are valid.
  struct Parts {
    const EngineOptions& options;
    const PlanSources& sources;
    comm::Mailbox& mailbox;
    const Clock& clock;
    EngineObserver& observer;
    TraceRecorder* trace = nullptr;  // null: nobody traces
  };
  explicit Engine(const Parts& parts);
  ~Engine() override;  // Stop()
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Starts the engine thread; once.
  void Start();
  // Refuses new requests, lets the running ones finish until drain_deadline, then ends the workers.
  void Drain();
  // Ends all sequences (kError) and the workers, and joins the thread. Idempotent.
  void Stop();

  Result<std::vector<SeqId>> SubmitAll(std::vector<SequenceSubmission> submissions) override;
  void Cancel(SeqId seq) override;
  ServiceStatus status() const override;
  Result<ReplanAnswer> Replan(std::string plan_json) override;
  int n_ctx() const override;

 private:
  struct Submission {
    SeqId id;
    SequenceSubmission sequence;
  };
  // What other threads ask of the engine thread.
  struct Inbox {
    std::vector<Submission> submissions;
    std::vector<SeqId> cancels;
    std::optional<std::string> replan;  // a plan's text, or ""
    bool drain = false;
    bool stop = false;
  };

  // The loop (engine.cc).
  void Run();
  void HandleInbox();
  void Accept(Submission submission);
  void HandleDrain();
  void ReceiveFrames();
  void Schedule();
  void Act(const SchedulerActions& actions);
  void Deliver(SeqId seq, const GenerationEvent& event);
  void Publish();
  void PublishPlanCheck();
  void CollectLastSpans();
  // Ends the loop: all sequences end with `why`, the workers are told to.
  void End(const Status& why, ServiceState last_state);
  void Fail(const Status& why);
  Status CheckRoom(size_t n_new) const REQUIRES(mutex_);

  // Who and what is lost (engine_liveness.cc). An error is the end of the service.
  void HandleTick();
  Status CheckLiveness(TimePoint now);
  Status CheckLinkReport(TimePoint now);
  Status CheckStepDeadline(TimePoint now) const;
  Status Lose(WorkerId worker, const Status& why);
  void NoteStep(const proto::StepBatch& step);
  void NoteAnswered(const proto::StepResult& result);
  std::string StepsDone() const;

  // Messages (engine_messages.cc). An error is the end of the service.
  Status HandleFrame(const comm::Received& received);
  Status On(comm::PeerId from, const proto::Hello& hello);
  Status On(comm::PeerId from, const proto::LoadProgress& progress);
  Status On(comm::PeerId from, const proto::Ready& ready);
  Status On(comm::PeerId from, const proto::StepResult& result);
  Status On(comm::PeerId from, const proto::Heartbeat& heartbeat);
  Status On(comm::PeerId from, const proto::Failure& failure);
  Status On(comm::PeerId from, const proto::LinkReport& report);
  Status On(comm::PeerId from, const proto::Shutdown& shutdown);
  Status On(comm::PeerId from, const proto::Leaving& leaving);
  Status On(comm::PeerId from, const proto::LinkLost& lost);
  Status On(comm::PeerId from, const proto::FiringCounts& counts);
  Status On(comm::PeerId from, const proto::ClockEcho& echo);
  Status On(comm::PeerId from, const proto::TraceSpans& spans);
  template <typename Other>
  Status On(comm::PeerId from, const Other& message);  // kinds that only the coordinator sends
  void SayWhatJoiningMeans(WorkerId worker);
  Status Refuse(comm::PeerId from, const proto::Hello& hello, const Status& why);
  Status AskClock(WorkerId worker);
  Status CountStale();
  WorkerStatus StatusOf(WorkerId worker) const;
  Status SendTo(comm::PeerId peer, const proto::Message& message);
  Status SendToWorker(WorkerId worker, const proto::Message& message);

  // From complete membership to serving (engine_plan.cc). An error is the end of the service.
  Status StartSurvey();
  Status TakeClusterFile();
  Status ContinueSurvey();
  Status StartPlanning();
  // With `said` by the plan that is given, if one is.
  Result<PlanJob> JobFor(placement::ClusterProfile here,
                         const placement::SaidTransports& said) const;
  // The transport of the service, where it has one for all links.
  placement::LinkKind LinkOfAll() const;
  placement::PairTransport TransportsAs(const placement::SaidTransports& said) const;
  void HandlePlanned();
  Status WhyNoPlan(const Status& why) const;
  Status StartLoading(const PlanOutcome& planned);
  using Assignments = std::vector<std::pair<WorkerId, proto::AssignPlan>>;
  Result<Assignments> AssignmentsOfAll() const;
  Status SendPlan(const Assignments& assignments);
  Result<proto::AssignPlan> AssignmentOf(WorkerId worker) const;
  GpuGroup GroupOf(const placement::StagePlan& stage) const;
  GpuLink GpuLinkBehind(size_t stage) const;
  const proto::Hello* HelloOfMember(WorkerId worker) const;
  Status AddressNeighbours(size_t i, proto::AssignPlan* assignment) const;
  Result<std::string> AddressOf(WorkerId worker, placement::LinkKind transport) const;
  SchedulerOptions ServingOptions() const;
  void StartServing();
  void SetExpected(const PlanOutcome& planned);
  void NoteLinks(const placement::ClusterProfile& cluster);
  void SetState(ServiceState state);

  // From one plan to the next while streams wait (engine_change.cc). An error is the end of the
  // service.
  struct PlanWish {
    std::string why;                // for people
    std::string plan_json;          // of a plan that was given; "": the best there is
    std::vector<WorkerId> leavers;  // who waits for it, and has no place in it
    std::vector<WorkerId> others;   // who wants to leave too, and may have one
    bool must_gain = false;         // more than the change costs (replan_rule.h)
    bool is_around = false;         // lost workers: steps wait for it
    model::NeuronOrder order;       // by live heat, or as the tables of a given plan tell
  };
  struct Change {
    PlanOutcome next;
    std::string why;
    model::NeuronOrder order;
    TimePoint asked_at;
    double gain = 0;                  // predicted, where it had to be worth it
    std::vector<WorkerId> leavers;    // whom it sets free
    bool is_loading = false;          // the steps of the plan before have been answered
    bool is_return = false;           // to the plan before, since the next one could not be loaded
    model::NeuronOrder order_before;  // while it loads
    uint64_t kept_bytes = 0, read_bytes = 0;
  };
  // Around lost workers (engine_loss.cc). An error is the end of the service.
  struct Loss {
    Status why;
    TimePoint at;
  };
  void LosePlan(WorkerId worker, const Status& why);
  void DropPlan(const Status& why);
  Status PlanAround();
  Status NoPlanAround(const PlanWish& wish, const Status& why);
  Status LoseStuck(const std::vector<WorkerId>& stuck, const Status& why);

  // Links to those who join while the cluster serves, and what is taken of any survey
  // (engine_join.cc). An error is the end of the service.
  Status MeasureJoined(TimePoint now);
  Status StartJoinSurvey(TimePoint now);
  Status ContinueJoinSurvey();
  Result<bool> AskRound();
  void SkipJoinRound(const Status& why);
  void FinishJoinSurvey();
  // Takes what a survey found into cluster_; how many links that are.
  size_t TakeLinks(const LinkSurvey& survey);

  void SayNews(std::string line);
  Status StartAskedPlan();
  Status WishPlan(PlanWish wish);
  Result<PlanJob> JobOf(PlanWish* wish) const;
  bool IsReachable(WorkerId worker) const;
  Status OnNextPlan(Result<PlanOutcome> next);
  Status RefuseWish(const PlanWish& wish, const Status& why);
  void BeginChange(PlanOutcome next, PlanWish wish);
  Status ContinueChange();
  Status LoadNextPlan();
  void FinishChange();
  void AbandonChange(const Status& why);
  Status CheckLoadDeadline(TimePoint now);
  Status ReturnToPlanBefore(const std::vector<WorkerId>& stuck, const Status& why);
  Status HandleLeavers(TimePoint now);
  Status WishToLeave(std::vector<WorkerId> leavers, std::vector<WorkerId> others);
  void LetGo(WorkerId worker);
  void GiveUp(WorkerId worker, const Status& why);
  Status KeepWorkers(const std::vector<WorkerId>& workers, const Status& why);

  // Which neurons are hot, and what follows from it (engine_heat.cc).
  Status LookAtHeat(TimePoint now);
  bool IsWorthChanging(const PlanOutcome& next, const PlanWish& wish);
  void AddHeats(PlanWish* wish, PlanJob* job) const;
  bool StandsOtherwise(const placement::Plan& next, const model::NeuronOrder& order) const;
  model::NeuronOrder OrderOf(const placement::Plan& next, const model::NeuronOrder& wished) const;
  model::NeuronOrder InFull(model::NeuronOrder order) const;
  void TakeOrder(const placement::Plan& next, const model::NeuronOrder& wished);
  void TakeHeats(const PlanOutcome& planned);
  std::vector<int> LayersWithTable(const proto::AssignPlan& assignment) const;
  Status SendTables(WorkerId worker, const proto::AssignPlan& assignment);

  const EngineOptions& options_;
  const PlanSources& sources_;
  comm::Mailbox& mailbox_;
  const Clock& clock_;
  EngineObserver& observer_;
  TraceRecorder* const trace_;

  // Engine thread only, after Start.
  const placement::SaidTransports given_;  // by the plan of the options
  Membership membership_;
  std::unique_ptr<LinkSurvey> survey_;  // while links are measured, before the first plan
  // Of those who joined before the first plan: what they measured, or what a file says. The links
  // of those who joined later too.
  placement::ClusterProfile cluster_;
  std::set<WorkerId> joined_;                // whose links have not been measured, and could be
  std::unique_ptr<LinkSurvey> join_survey_;  // while it goes on
  // Whose links survey_ or join_survey_ is for: those that no file knows, or of joined_.
  std::set<WorkerId> surveyed_;
  uint32_t first_round_ = 0;             // of the next survey
  bool has_new_links_ = false;           // since the cluster was saved
  std::unique_ptr<PlanTask> plan_task_;  // while kPlanning
  // That nobody wants any more: a search may take seconds to notice, and heartbeats go on.
  std::vector<std::unique_ptr<PlanTask>> dropped_tasks_;
  placement::Plan plan_;
  PlanOutcome served_;  // of the plan that serves, or did before change_ was loaded
  std::unique_ptr<Scheduler> scheduler_;  // from kReady on
  std::unordered_map<SeqId, std::shared_ptr<GenerationSink>> sinks_;
  std::vector<std::byte> encoded_;  // scratch of SendTo
  TimePoint next_tick_;
  std::optional<TimePoint> drain_until_;  // set while draining
  TimePoint last_progress_at_;            // an answered step, or arrival into an idle engine
  std::map<StepId, TimePoint> sent_at_;   // steps with entries that are not answered
  Duration slowest_step_{0};              // from when it was sent, or the answer before it
  // The first word of a broken link, until the lost worker itself is found out.
  struct LinkReport {
    Status why;
    WorkerId peer;
    TimePoint at;
  };
  std::optional<LinkReport> link_report_;
  std::optional<Loss> loss_;  // of workers of plan_; until a plan without them serves
  uint64_t n_stale_ = 0;
  PlanWish wish_;  // what plan_task_ works on, once there is a plan
  std::optional<Change> change_;
  std::optional<std::string> asked_plan_;  // as Inbox::replan, until its turn comes
  PlanStatus plan_status_;
  LiveHeat live_heat_;
  model::NeuronOrder order_;                          // in which the workers' neurons stand
  std::set<int> tabled_;                              // layers whose order we have said
  std::vector<placement::NeuronHeat> planned_heats_;  // in that order; of plan_
  TimePoint next_look_;                               // at the heat
  TimePoint next_search_;                             // for a plan because of it
  bool has_joined_ = false;                           // somebody, since the last look
  TimePoint loading_since_;
  double read_bytes_per_s_ = 0;  // of the fastest load
  TimePoint plan_changed_at_;
  bool workers_changed_ = true;   // since the last Publish
  uint64_t checked_version_ = 0;  // of membership_, in plan_check_
  bool running_ = true;           // the loop goes on

  mutable Mutex mutex_;
  Inbox inbox_ GUARDED_BY(mutex_);
  ServiceStatus status_ GUARDED_BY(mutex_);     // as of the last loop
  TimePoint status_at_ GUARDED_BY(mutex_);      // when the workers' ages were right
  TimePoint progress_at_ GUARDED_BY(mutex_);    // last_progress_at_
  TimePoint changed_at_ GUARDED_BY(mutex_);     // plan_changed_at_
  PlanCheck plan_check_ GUARDED_BY(mutex_);     // from kReady on
  int n_queued_ GUARDED_BY(mutex_) = 0;         // waiting in the scheduler as of the last loop
  SchedulerOptions limits_ GUARDED_BY(mutex_);  // for CheckFits; n_ctx 0 until there is a plan
  SeqId last_seq_ GUARDED_BY(mutex_);

  std::thread thread_;
};

}  // namespace thermocline::coordinator
