#include "coordinator/launch.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "base/host_info.h"
#include "base/log.h"
#include "base/metrics.h"
#include "base/str.h"
#include "base/units.h"
#include "comm/endpoints.h"
#include "comm/join_ticket.h"
#include "comm/mailbox.h"
#include "comm/mpi_runtime.h"
#include "coordinator/engine.h"
#include "coordinator/http/server.h"
#include "coordinator/launcher_watch.h"
#include "coordinator/served_model.h"
#include "coordinator/terminal.h"
#include "coordinator/trace_recorder.h"
#include "coordinator/weights_server.h"
#include "coordinator/worker_process.h"
#include "model/ffn_policy.h"
#include "model/file_names.h"
#include "model/sparsity.h"
#include "model/sparsity_profile.h"

namespace thermocline::coordinator {
namespace {

// How soon a signal or a failure is noticed by the main thread.
constexpr Duration kPollInterval = std::chrono::milliseconds(20);
// The end of a worker process and its reason arrive within this.
constexpr Duration kSameEvent = std::chrono::milliseconds(200);
// mpirun gives ranks one second between SIGTERM and SIGKILL, and needs less than another itself.
constexpr Duration kLauncherPatience = std::chrono::seconds(4);

Result<std::unique_ptr<comm::Mailbox>> BindMailbox(const comm::ClusterKey& key,
                                                   const std::string& endpoint) {
  comm::ZmqMailboxOptions options;
  options.key = key;
  options.endpoints = {endpoint};
  return comm::BindZmqMailbox(options);
}

// The bulk channel takes any free port beside the control plane's.
std::string AnyPortOf(const std::string& endpoint) {
  return endpoint.substr(0, endpoint.rfind(':')) + ":*";
}

Result<comm::ClusterKey> ChooseKey(const ServeConfig& config) {
  if (!config.key) return comm::ClusterKey::Generate();
  return comm::ClusterKey::Parse(*config.key);
}

// IPv6 addresses stand in brackets in a URL (RFC 3986, section 3.2.2).
std::string UrlHost(const std::string& address) {
  return address.find(':') == std::string::npos ? address : Str("[", address, "]");
}

std::string SecurityLine(const ServeConfig& config, const comm::JoinTicket& ticket) {
  const bool loopback = config.bind_endpoint.starts_with("tcp://127.");
  std::string line =
      Str("API on ", config.http.address,
          config.http.api_keys.empty() ? " without a key" : " with an API key", ", no TLS",
          " | cluster: CURVE on ", loopback ? "loopback" : comm::JoinEndpoints(ticket.endpoints));
  if (config.engine.plan.link == placement::LinkKind::kMpi) {
    line += " | MPI links are not authenticated: trusted network only";
  }
  return line;
}

std::string ModelLine(const ServeConfig& config, const ServedModel& model) {
  return Str("model ", config.http.model_name, ": ", model.config.arch_name, ", ",
             model.config.n_layer, " layers, ", model.card.n_params / 1000000, ".",
             model.card.n_params / 100000 % 10, " M parameters, ",
             FormatBytes(model.card.size_bytes), ", ffn ",
             model::FfnWishText(config.ffn, config.engine.plan.ffn));
}

// Everything that serves, in the order it is built; torn down in reverse.
class Coordinator {
 public:
  Coordinator(const ServeFlags& flags, ServeConfig config)
      : flags_(flags), config_(std::move(config)) {}

  // Opens the model, binds every port and starts HTTP; no worker is needed yet.
  Status Prepare() {
    TC_ASSIGN_OR_RETURN(model_, OpenServedModel(flags_.model_path, flags_.chat_template));
    TC_RETURN_IF_ERROR(ChooseFfn());
    TC_RETURN_IF_ERROR(ReadHeats());
    TC_ASSIGN_OR_RETURN(ticket_.key, ChooseKey(config_));
    TC_ASSIGN_OR_RETURN(mailbox_, BindMailbox(ticket_.key, config_.bind_endpoint));
    ticket_.endpoints = mailbox_->endpoints();
    TC_RETURN_IF_ERROR(PrepareWeights());
    DescribeModel();
    terminal_.emplace(stderr, clock_,
                      TerminalText{SecurityLine(config_, ticket_), ModelLine(config_, model_)});
    if (!flags_.trace_path.empty()) {
      TC_ASSIGN_OR_RETURN(trace_, TraceRecorder::Create(flags_.trace_path, clock_.Now()));
    }
    engine_ = std::make_unique<Engine>(
        Engine::Parts{config_.engine, sources_, *mailbox_, clock_, *terminal_, trace_.get()});
    TC_ASSIGN_OR_RETURN(
        http_, http::HttpServer::Start(
                   config_.http, model_.card,
                   {*engine_, *model_.tokenizer, model_.chat_template.get(), clock_, metrics_}));
    terminal_->SetUrl(Str("http://", UrlHost(config_.http.address), ":", http_->port()));
    return OkStatus();
  }

  const comm::JoinTicket& ticket() const { return ticket_; }

  Status StartWorkersBeside(const std::string& program) {
    for (const auto& arguments : config_.worker_arguments) {
      TC_ASSIGN_OR_RETURN(WorkerProcess worker, WorkerProcess::Start(program, ticket_, arguments));
      workers_.push_back(std::move(worker));
    }
    return OkStatus();
  }

  // While it serves. A key that was made here is not printed: logs would keep it.
  void PrintHowToJoin() const {
    if (config_.engine.replan == ReplanMode::kOff) return;
    const std::string at = comm::JoinEndpoints(ticket_.endpoints);
    const bool under_mpi = config_.workers == WorkerSource::kMpi;
    const placement::PlanRequest& plan = config_.engine.plan;
    if (under_mpi && plan.link == placement::LinkKind::kMpi && !plan.link_by_pair) {
      std::fprintf(stderr,
                   "cluster at %s; its links are MPI's, so a worker that joins from outside stays "
                   "spare: started with --transport auto, more may join\n",
                   at.c_str());
    } else if (config_.key) {
      std::fprintf(stderr,
                   "more workers may join, with the same THERMOCLINE_CLUSTER_KEY:\n"
                   "  thermocline worker --join %s\n",
                   at.c_str());
    } else if (under_mpi) {
      std::fprintf(stderr,
                   "cluster at %s; started with a key in THERMOCLINE_CLUSTER_KEY, more workers may "
                   "join\n",
                   at.c_str());
    }
  }

  void PrintJoinCommand() const {
    // A key that was given is a secret already kept somewhere; one made here must be said once.
    const std::string key =
        config_.key ? "" : Str("THERMOCLINE_CLUSTER_KEY='", ticket_.key.ToString(), "' ");
    std::fprintf(stderr,
                 "waiting for %zu workers; on each of them run%s\n"
                 "  %sthermocline worker --join %s\n",
                 config_.engine.expected.size(),
                 config_.key ? ", with the same THERMOCLINE_CLUSTER_KEY," : "", key.c_str(),
                 comm::JoinEndpoints(ticket_.endpoints).c_str());
  }

  // A rank that is gone takes part in no collective any more, nor in the end of MPI.
  bool HasLostWorkers() const { return engine_->status().plan.n_lost > 0; }

  Status ServeUntilAsked(const StopRequests& requests) {
    engine_->Start();
    bool draining = false;
    while (requests.stop == 0 && !terminal_->stopped()) {
      // A signal to all of us reaches a worker too, which then says that it leaves.
      if (terminal_->failed()) return requests.stop == 0 ? engine_->status().failure : OkStatus();
      if (HaveWorkersEnded()) return WhyWorkersEnded(requests);
      if (requests.drain != 0 && !draining) {
        draining = true;
        SayDraining();
        engine_->Drain();
      }
      std::this_thread::sleep_for(kPollInterval);
    }
    return OkStatus();
  }

  void SayDraining() const {
    const ServiceStatus status = engine_->status();
    std::fprintf(stderr, "draining: %d running and %d waiting, for at most %.0f s\n",
                 status.n_running, status.n_waiting, Seconds(config_.engine.drain_deadline));
  }

  void Stop() {
    if (engine_ != nullptr) engine_->Stop();
    if (http_ != nullptr) http_->Stop();
  }

 private:
  Status PrepareWeights() {
    if (config_.engine.weights_from != proto::WeightsFrom::kCoordinator) return OkStatus();
    TC_ASSIGN_OR_RETURN(auto bulk, BindMailbox(ticket_.key, AnyPortOf(config_.bind_endpoint)));
    weights_server_ = std::make_unique<WeightsServer>(std::move(bulk), *model_.reader, clock_);
    config_.engine.bulk_endpoint = weights_server_->endpoints();
    return OkStatus();
  }

  Status ChooseFfn() {
    if (config_.ffn.needs_sparsity()) TC_RETURN_IF_ERROR(UseSparsityFile());
    TC_ASSIGN_OR_RETURN(config_.engine.plan.ffn,
                        model::ResolveFfnModes(model_.config, model_.sparsity, config_.ffn));
    const std::string note = model::UnmeasuredNote(model_.sparsity, config_.engine.plan.ffn);
    if (!note.empty()) LogInfo("coordinator", note);
    return OkStatus();
  }

  Status UseSparsityFile() {
    const std::string path = model::FindSparsityFile(flags_.predictor_path, flags_.model_path);
    if (path.empty()) return OkStatus();
    TC_ASSIGN_OR_RETURN(const model::SparsityFile file,
                        model::OpenSparsityFile(path, model_.config, model_.fingerprint));
    // Losses are judged here; a file that has nothing else is of no use to workers.
    if (file.has_parts() && config_.engine.weights_from == proto::WeightsFrom::kCoordinator) {
      const std::string fact =
          Str("--weights-from coordinator sends the model file only, not ", path,
              ": share both files with the workers, or use --ffn exact or --ffn dense");
      if (config_.ffn.forced || !flags_.predictor_path.empty()) return InvalidArgument(fact);
      LogWarn("coordinator", fact);
      return OkStatus();
    }
    model::AttachSparsity(file, &model_.weights, &model_.sparsity);
    if (file.has_parts()) config_.engine.sparsity_path = AbsolutePath(path);
    return OkStatus();
  }

  // How often each neuron fires: what the profile beside the model says, or --active; without
  // either all always do, until live counts tell.
  // Weights that come by wire stand in the file's order, which a profile does not tell of.
  Status ReadHeats() {
    const std::string path = model::ProfilePathOf(flags_.model_path);
    heats_ = placement::UniformHeats(model_.config, flags_.active < 0 ? 1 : flags_.active);
    if (!std::filesystem::exists(path)) {
      SayAssumedActivity(path);
      return OkStatus();
    }
    TC_ASSIGN_OR_RETURN(const auto reader, model::OpenMappedFile(path));
    TC_ASSIGN_OR_RETURN(const model::SparsityProfile profile, model::ReadSparsityProfile(*reader));
    TC_RETURN_IF_ERROR(model::CheckProfileOf(profile, model_.fingerprint).WithContext(path));
    auto heats = placement::HeatsOf(profile, model_.config);
    if (!heats.ok()) return heats.status().WithContext(path);
    const bool by_wire = config_.engine.weights_from == proto::WeightsFrom::kCoordinator;
    heats_ = flags_.active >= 0 ? placement::UniformHeats(model_.config, flags_.active)
             : by_wire          ? placement::Levelled(*heats)
                                : *std::move(heats);
    if (!by_wire) order_ = model::HeatOrder(profile);
    return OkStatus();
  }

  // Only where a mode may skip neurons do plans ask how many are active.
  void SayAssumedActivity(const std::string& path) const {
    const model::FfnModes ffn = config_.engine.plan.ffn;
    if (!ffn.needs_neuron_rows()) return;
    LogInfo("coordinator",
            flags_.active >= 0
                ? Str("no ", path, ": plans take ", 100 * flags_.active,
                      " % of the neurons as active (--active), all alike")
                : Str("no ", path, ": plans and expected speeds take every neuron as active; ",
                      "`thermocline profile` measures, --active tells"));
  }

  void DescribeModel() {
    config_.engine.model_path = AbsolutePath(flags_.model_path);
    config_.engine.model_bytes = model_.reader->size_bytes();
    config_.engine.header_bytes = model_.header_bytes;
    config_.engine.plan.model_fingerprint = model_.fingerprint;
    if (!flags_.shape.empty() && !flags_.cluster_path.empty()) {
      LogWarn("coordinator",
              "the plan takes links as --cluster has them, not as --shape makes them");
    }
    if (config_.engine.plan.n_ctx > model_.config.n_ctx_train) {
      LogWarn("coordinator", Str("--ctx-size is beyond what the model was trained for; text may "
                                 "become nonsense there:",
                                 Kv("n_ctx", config_.engine.plan.n_ctx),
                                 Kv("trained", model_.config.n_ctx_train)));
    }
  }

  // Workers may have another working directory.
  static std::string AbsolutePath(const std::string& path) {
    std::error_code error;
    const auto absolute = std::filesystem::absolute(path, error);
    return error ? path : absolute.string();
  }

  // One of several may end once they have served: the engine plans without it where it can.
  bool HaveWorkersEnded() {
    has_served_ = has_served_ || engine_->status().state == ServiceState::kReady;
    const auto has_ended = [](WorkerProcess& worker) { return worker.Ended().has_value(); };
    const auto n_ended =
        static_cast<size_t>(std::count_if(workers_.begin(), workers_.end(), has_ended));
    return n_ended > 0 && (!has_served_ || n_ended == workers_.size());
  }

  // The worker tells its own reason, and a signal to both of us is none; either may be on its way.
  Status WhyWorkersEnded(const StopRequests& requests) {
    for (Duration waited{0}; waited < kSameEvent; waited += kPollInterval) {
      if (requests.stop != 0) return OkStatus();
      if (terminal_->failed()) return engine_->status().failure;
      std::this_thread::sleep_for(kPollInterval);
    }
    const auto ended = std::find_if(workers_.begin(), workers_.end(), [](WorkerProcess& worker) {
      return worker.Ended().has_value();
    });
    return Unavailable(Str("worker ", 1 + (ended - workers_.begin()), " on ", HostName(),
                           ", beside this coordinator, ", *ended->Ended()));
  }

  const ServeFlags& flags_;
  ServeConfig config_;
  const SteadyClock clock_;
  Metrics metrics_;
  ServedModel model_;
  std::vector<placement::NeuronHeat> heats_;
  model::NeuronOrder order_;
  const PlanSources sources_{model_.config, model_.weights, &model_.sparsity, heats_, &order_};
  comm::JoinTicket ticket_;
  std::unique_ptr<comm::Mailbox> mailbox_;
  std::unique_ptr<WeightsServer> weights_server_;
  std::optional<Terminal> terminal_;
  bool has_served_ = false;
  std::vector<WorkerProcess> workers_;    // end after the engine has told them to
  std::unique_ptr<TraceRecorder> trace_;  // null: not asked for
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<http::HttpServer> http_;
};

std::string WorkerProgram(const std::string& own_folder) {
  return own_folder + "/thermocline-worker";
}

// Brings the coordinator up and its workers on their way. Rank 0 of an MPI launch tells the others
// where to join.
Status Launch(const ServeConfig& config, const std::string& own_folder, comm::MpiRuntime* mpi,
              Coordinator* coordinator) {
  const Status prepared = coordinator->Prepare();
  if (mpi != nullptr) {
    // An empty ticket sends the waiting ranks home.
    const std::string ticket = prepared.ok() ? coordinator->ticket().ToString() : "";
    TC_RETURN_IF_ERROR(mpi->BroadcastFromRankZero(ticket).status());
  }
  TC_RETURN_IF_ERROR(prepared);
  if (config.workers == WorkerSource::kJoin) {
    coordinator->PrintJoinCommand();
  } else {
    coordinator->PrintHowToJoin();
  }
  if (config.workers != WorkerSource::kBesideCoordinator) return OkStatus();
  return coordinator->StartWorkersBeside(WorkerProgram(own_folder));
}

Status StartMpiIfLaunchedBy(const ServeConfig& config, std::unique_ptr<comm::MpiRuntime>* mpi) {
  if (config.workers != WorkerSource::kMpi) return OkStatus();
  TC_ASSIGN_OR_RETURN(*mpi, comm::StartMpi());
  return OkStatus();
}

}  // namespace

Status RunCoordinator(const ServeFlags& flags, const ServeConfig& config,
                      const std::string& own_folder, const StopRequests& requests,
                      const std::function<void(const Status&)>& report) {
  std::unique_ptr<comm::MpiRuntime> mpi;
  Status launched = StartMpiIfLaunchedBy(config, &mpi);
  ServeConfig found = config;
  if (config.takes_gpus) {
    UseGpus(ListGpus(WorkerProgram(own_folder)), AvailableCores(), &found);
  }
  Coordinator coordinator(flags, std::move(found));
  if (launched.ok()) launched = Launch(config, own_folder, mpi.get(), &coordinator);
  const Status status = launched.ok() ? coordinator.ServeUntilAsked(requests) : launched;
  if (!status.ok()) report(status);
  const bool is_whole = status.ok() && !coordinator.HasLostWorkers();
  coordinator.Stop();
  if (mpi != nullptr && launched.ok() && !is_whole) {
    mpi->Abandon();
    KillStuckLauncherAfter(kLauncherPatience);
  }
  return status;
}

}  // namespace thermocline::coordinator
