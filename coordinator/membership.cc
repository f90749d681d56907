#include "coordinator/membership.h"

#include <algorithm>

#include "base/check.h"
#include "base/str.h"
#include "placement/link_preset.h"
#include "placement/pool_alike.h"
#include "placement/solver/split_problem.h"

namespace thermocline::coordinator {
namespace {

// Refusals kept for the deadline's message; a worker that retries for ever adds no memory.
constexpr size_t kMaxRefusalsKept = 4;

std::string NameOfWorker(WorkerId id, const std::string& host) {
  return host.empty() ? Str("worker ", id) : Str("worker ", id, " on ", Printable(host));
}

// Without the number of threads, which "cpu avx512-vnni x4" ends with.
std::string KindOfDevice(const std::string& device) {
  const size_t at = device.rfind(" x");
  if (at == std::string::npos) return device;
  const size_t end = device.find_first_not_of("0123456789", at + 2);
  return device.substr(0, at) + (end == std::string::npos ? "" : device.substr(end));
}

struct MemoryReader {
  std::string memory;  // whose reading it is: a host's, by one kind of device
  placement::WorkerProfile* profile = nullptr;
};

// Equal devices of one host read the same memory. What one of them measured while the others were
// at it is luck; their sum is what the host gives, and each thread gets its part of that.
void ShareBandwidthOfHosts(const std::vector<MemoryReader>& readers) {
  struct Host {
    double bytes_per_s = 0;
    int n_threads = 0;
  };
  std::map<std::string, Host> hosts;
  for (const auto& [memory, profile] : readers) {
    if (!profile->read_bytes_per_s.known()) continue;
    Host& host = hosts[memory];
    host.bytes_per_s += profile->read_bytes_per_s.value;
    host.n_threads += profile->n_threads;
  }
  for (const auto& [memory, profile] : readers) {
    const Host& host = hosts[memory];
    if (host.n_threads == 0 || !profile->read_bytes_per_s.known()) continue;
    profile->read_bytes_per_s.value = host.bytes_per_s * profile->n_threads / host.n_threads;
  }
}

Status NotAMember(comm::PeerId peer) {
  return NotFound(Str("message from a peer that did not join:", Kv("peer", peer)));
}

}  // namespace

Membership::Membership(const MembershipOptions& options, TimePoint now)
    : options_(options), started_(now) {
  CHECK(!options_.expected.empty());
  for (const ExpectedWorker& worker : options_.expected) last_id_ = std::max(last_id_, worker.id);
}

Status Membership::CheckVersion(const proto::Hello& hello) const {
  if (hello.protocol_version != proto::kProtocolVersion) {
    return InvalidArgument(Str("protocol versions differ:", Kv("worker", hello.protocol_version),
                               Kv("coordinator", proto::kProtocolVersion)));
  }
  if (hello.build == options_.build) return OkStatus();
  return InvalidArgument(Str("builds differ:", Kv("worker", Printable(hello.build)),
                             Kv("coordinator", options_.build)));
}

bool Membership::IsExpected(WorkerId id) const {
  return std::any_of(options_.expected.begin(), options_.expected.end(),
                     [&](const ExpectedWorker& expected) { return expected.id == id; });
}

bool Membership::Needs(const proto::Hello& hello) const {
  return !complete() && hello.wanted_id && IsExpected(*hello.wanted_id) &&
         !members_.contains(*hello.wanted_id);
}

Result<WorkerId> Membership::ChooseId(const proto::Hello& hello) const {
  if (!hello.wanted_id) {
    if (has_plan_) {
      if (members_.size() < placement::kMaxSplitDevices) return WorkerId{last_id_.value + 1};
      return InvalidArgument(Str("the cluster has as many workers as plans are made for:",
                                 Kv("n_workers", members_.size())));
    }
    for (const ExpectedWorker& expected : options_.expected) {
      if (!members_.contains(expected.id)) return expected.id;
    }
    return InvalidArgument(Str("the cluster is complete:", Kv("n_workers", members_.size())));
  }
  const WorkerId wanted = *hello.wanted_id;
  if (const auto taken = members_.find(wanted); taken != members_.end()) {
    return InvalidArgument(Str("worker id is taken:", Kv("id", wanted),
                               Kv("host", Printable(taken->second.hello.host)),
                               Kv("pid", taken->second.hello.pid)));
  }
  if (!IsExpected(wanted)) {
    return InvalidArgument(Str("worker id is not expected:", Kv("id", wanted),
                               Kv("n_workers", options_.expected.size())));
  }
  // The place of a worker that has left; a rank is not started again.
  if (has_plan_) return InvalidArgument("the worker of this id has left; join without one");
  return wanted;
}

Result<WorkerId> Membership::OnHello(comm::PeerId peer, const proto::Hello& hello, TimePoint now) {
  if (Find(peer) != nullptr) return InvalidArgument("this worker has joined already");
  Status version = CheckVersion(hello);
  Result<WorkerId> id = version.ok() ? ChooseId(hello) : Result<WorkerId>(version);
  if (!id.ok()) {
    if (refusals_.size() < kMaxRefusalsKept) {
      refusals_.push_back(Str(Printable(hello.host), ": ", id.status().message()));
    }
    return id.status();
  }
  Member member{.peer = peer, .hello = hello, .last_seen = now, .last_heartbeat = now};
  member.hello.profile.id = *id;
  member.hello.profile.host = hello.host;
  placement::FillGpus(&member.hello.profile);
  member.status = {.id = *id,
                   .host = hello.host,
                   .device = hello.device,
                   .n_cores = hello.profile.n_cores,
                   .memory_bytes = hello.profile.memory_bytes,
                   .gpus = member.hello.profile.gpus};
  members_.emplace(*id, std::move(member));
  last_id_ = std::max(last_id_, *id);
  ++version_;
  return *id;
}

Membership::Member* Membership::Find(comm::PeerId peer) {
  for (auto& [id, member] : members_) {
    if (member.peer == peer) return &member;
  }
  return nullptr;
}

std::optional<WorkerId> Membership::FindId(comm::PeerId peer) const {
  for (const auto& [id, member] : members_) {
    if (member.peer == peer) return id;
  }
  return std::nullopt;
}

Status Membership::OnHeartbeat(comm::PeerId peer, const proto::Heartbeat& heartbeat,
                               TimePoint now) {
  Member* member = Find(peer);
  if (member == nullptr) return NotAMember(peer);
  WorkerStatus& status = member->status;
  const double elapsed_us = Seconds(now - member->last_heartbeat) * 1e6;
  if (elapsed_us > 0 && heartbeat.compute_us >= status.compute_us) {
    status.busy_fraction =
        std::min(1.0, double(heartbeat.compute_us - status.compute_us) / elapsed_us);
  }
  status.compute_us = heartbeat.compute_us;
  status.wait_us = heartbeat.wait_us;
  status.peak_rss_bytes = heartbeat.peak_rss_bytes;
  status.link_bytes_sent = heartbeat.link_bytes_sent;
  status.kv_pages_used = heartbeat.kv_pages_used;
  status.steps_done = heartbeat.steps_done;
  status.stale_frames = heartbeat.stale_frames;
  member->last_seen = member->last_heartbeat = now;
  return OkStatus();
}

Status Membership::OnLoadProgress(comm::PeerId peer, const proto::LoadProgress& progress,
                                  TimePoint now) {
  Member* member = Find(peer);
  if (member == nullptr) return NotAMember(peer);
  if (progress.bytes_done != member->status.bytes_done) member->last_loaded = now;
  member->status.bytes_done = progress.bytes_done;
  member->status.bytes_total = progress.bytes_total;
  member->last_seen = now;
  return OkStatus();
}

Status Membership::OnReady(comm::PeerId peer, const proto::Ready& ready, TimePoint now) {
  Member* member = Find(peer);
  if (member == nullptr) return NotAMember(peer);
  member->status.bytes_done = member->status.bytes_total = ready.owned_bytes;
  member->status.peak_rss_bytes = ready.peak_rss_bytes;
  member->neuron_order = ready.neuron_order;
  if (!ready.nccl_id.empty()) member->hello.nccl_id = ready.nccl_id;
  if (!ready.nccl_link_id.empty()) member->hello.nccl_link_id = ready.nccl_link_id;
  member->ready = true;
  member->last_seen = now;
  return OkStatus();
}

void Membership::OnPlan(const placement::Plan& plan, TimePoint now) {
  has_plan_ = true;
  ++version_;
  for (auto& [id, member] : members_) {
    member.ready = false;
    member.last_seen = member.last_loaded = now;
    member.status.stage = -1;
    member.status.is_helper = false;
    member.status.layer_begin = member.status.layer_end = 0;
    member.status.bytes_done = member.status.bytes_total = 0;
  }
  for (size_t i = 0; i < plan.stages.size(); ++i) {
    const placement::StagePlan& stage = plan.stages[i];
    WorkerStatus& status = members_.at(stage.lead).status;
    status.stage = static_cast<int>(i);
    status.layer_begin = stage.layers.begin;
    status.layer_end = stage.layers.end;
    status.bytes_total = stage.weights_bytes;
    for (const placement::HelperPlan& helper : stage.helpers) {
      WorkerStatus& own = members_.at(helper.worker).status;
      own.stage = static_cast<int>(i);
      own.is_helper = true;
      own.layer_begin = stage.layers.begin;
      own.layer_end = stage.layers.end;
      own.bytes_total = helper.bytes.weights;
    }
  }
}

bool Membership::all_ready() const {
  return std::all_of(members_.begin(), members_.end(), [](const auto& entry) {
    return entry.second.ready || entry.second.status.stage < 0;
  });
}

Status Membership::CheckNeuronOrder(WorkerId worker, uint64_t planned) const {
  if (members_.at(worker).neuron_order == planned) return OkStatus();
  return InvalidArgument(
      Str(NameOf(worker),
          " shares neurons that stand in another order there than in the plan: the "
          "same M.profile.gguf must lie beside M.gguf on its host and the "
          "coordinator's, or on none"));
}

Status Membership::CheckNeuronOrders(const placement::Plan& plan,
                                     const model::NeuronOrder& order) const {
  for (const placement::StagePlan& stage : plan.stages) {
    if (!stage.is_split()) continue;
    const uint64_t planned = model::ChecksumOf(order, stage.layers.begin, stage.layers.end);
    TC_RETURN_IF_ERROR(CheckNeuronOrder(stage.lead, planned));
    for (const placement::HelperPlan& helper : stage.helpers) {
      TC_RETURN_IF_ERROR(CheckNeuronOrder(helper.worker, planned));
    }
  }
  return OkStatus();
}

void Membership::OnStepTimes(const std::vector<uint32_t>& stage_compute_us) {
  for (auto& [id, member] : members_) {
    WorkerStatus& status = member.status;
    const auto stage = static_cast<size_t>(status.stage);
    if (status.stage < 0 || status.is_helper || stage >= stage_compute_us.size()) continue;
    status.last_step_us = stage_compute_us[stage];
    status.step_us_total += stage_compute_us[stage];
  }
}

Status Membership::CheckJoinDeadline(TimePoint now) const {
  if (complete() || now - started_ < options_.join_timeout) return OkStatus();
  return DeadlineExceeded(Str(members_.size(), " of ", options_.expected.size(),
                              " workers joined within ", Seconds(options_.join_timeout),
                              " s; missing: ", MissingWorkers()));
}

std::vector<std::pair<WorkerId, Status>> Membership::Silent(TimePoint now) const {
  std::vector<std::pair<WorkerId, Status>> silent;
  for (const auto& [id, member] : members_) {
    const Duration silence = now - member.last_seen;
    if (silence < options_.heartbeat_expiry) continue;
    silent.push_back(
        {id, Unavailable(Str(NameOf(id), " is lost: no heartbeat for ", Seconds(silence), " s"))});
  }
  return silent;
}

std::vector<WorkerId> Membership::StuckLoading(TimePoint now, Duration patience) const {
  std::vector<WorkerId> stuck;
  for (const auto& [id, member] : members_) {
    const bool loads = member.status.stage >= 0 && !member.ready;
    if (loads && now - member.last_loaded >= patience) stuck.push_back(id);
  }
  return stuck;
}

bool Membership::IsSpare(WorkerId id) const {
  const auto member = members_.find(id);
  return has_plan_ && member != members_.end() && member->second.status.stage < 0;
}

void Membership::SetLeaving(WorkerId id, bool leaving, TimePoint now) {
  Member& member = members_.at(id);
  if (leaving && !member.status.leaving) member.leaving_since = now;
  member.status.leaving = leaving;
  ++version_;
}

void Membership::Remove(WorkerId id) {
  members_.erase(id);
  ++version_;
}

std::vector<WorkerId> Membership::Leavers(TimePoint now, Duration patience) const {
  std::vector<WorkerId> leavers;
  for (const auto& [id, member] : members_) {
    if (member.status.leaving && now - member.leaving_since >= patience) leavers.push_back(id);
  }
  return leavers;
}

std::string Membership::MissingWorkers() const {
  std::string missing;
  for (const ExpectedWorker& expected : options_.expected) {
    if (members_.contains(expected.id)) continue;
    missing += Str(missing.empty() ? "" : ", ", NameOfWorker(expected.id, expected.host));
  }
  for (const std::string& refusal : refusals_) missing += Str("; refused ", refusal);
  return missing;
}

placement::ClusterProfile Membership::profile(const std::vector<WorkerId>& kept) const {
  placement::ClusterProfile profile;
  std::vector<std::string> memories;
  for (const auto& [id, member] : members_) {
    if (!Stays(id, kept)) continue;
    profile.workers.push_back(member.hello.profile);
    profile.workers.back().memory_bytes = MemoryOf(member, kept);
    memories.push_back(Str(member.hello.host, "/", KindOfDevice(member.hello.device)));
    // Nothing was left to measure with.
    placement::Figure& rate = profile.workers.back().read_bytes_per_s;
    if (rate.value == 0) rate = {};
  }
  std::vector<MemoryReader> readers;
  for (size_t i = 0; i < memories.size(); ++i)
    readers.push_back({memories[i], &profile.workers[i]});
  ShareBandwidthOfHosts(readers);
  placement::PoolAlikeWorkers(&profile);
  return profile;
}

bool Membership::Stays(WorkerId id, const std::vector<WorkerId>& kept) const {
  return !members_.at(id).status.leaving || std::find(kept.begin(), kept.end(), id) != kept.end();
}

// Workers that came one after the other each found the memory of their host free, or what those
// before left of it. Who leaves gives its part back.
uint64_t Membership::MemoryOf(const Member& member, const std::vector<WorkerId>& kept) const {
  if (!member.hello.offers_host) return member.hello.profile.memory_bytes;
  uint64_t most = 0, n = 0;
  for (const auto& [id, other] : members_) {
    if (!other.hello.offers_host || other.hello.host != member.hello.host) continue;
    most = std::max(most, other.hello.profile.memory_bytes);
    n += Stays(id, kept);
  }
  return std::min(member.hello.profile.memory_bytes, most / std::max<uint64_t>(n, 1));
}

std::string Membership::CrowdingNote(WorkerId id) const {
  const std::string& host = members_.at(id).hello.host;
  int n_workers = 0, n_threads = 0, n_cpus = 0;
  for (const auto& [other, member] : members_) {
    if (member.hello.host != host) continue;
    ++n_workers;
    n_threads += member.hello.profile.n_threads;
    n_cpus = std::max({n_cpus, member.hello.profile.n_cores, member.hello.profile.n_threads});
  }
  if (n_workers == 1 || n_threads <= n_cpus) return "";
  return Str(n_workers, " workers on ", Printable(host), " compute with ", n_threads,
             " threads on ", n_cpus, " cores and slow each other down: give each --threads ",
             std::max(1, n_cpus / n_workers), ", or --cpus with CPUs of its own");
}

std::vector<WorkerId> Membership::ids() const {
  std::vector<WorkerId> ids;
  for (const auto& [id, member] : members_) ids.push_back(id);
  return ids;
}

std::string Membership::NameOf(WorkerId id) const {
  const auto member = members_.find(id);
  return NameOfWorker(id, member == members_.end() ? "" : member->second.hello.host);
}

std::vector<WorkerStatus> Membership::Statuses(TimePoint now) const {
  std::vector<WorkerStatus> statuses;
  for (const auto& [id, member] : members_) {
    statuses.push_back(member.status);
    statuses.back().memory_bytes = MemoryOf(member, {});
    statuses.back().heartbeat_age_s = Seconds(now - member.last_seen);
  }
  return statuses;
}

}  // namespace thermocline::coordinator
