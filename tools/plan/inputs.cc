#include "tools/plan/inputs.h"

#include <filesystem>
#include <utility>

#include "base/str.h"
#include "base/text_file.h"
#include "base/units.h"
#include "model/ffn_policy.h"
#include "model/file_names.h"
#include "model/fingerprint.h"
#include "model/gguf.h"
#include "model/kv_dtype.h"
#include "model/sparsity_profile.h"
#include "placement/cluster_yaml.h"
#include "placement/context.h"
#include "placement/fit_cluster.h"
#include "placement/link_preset.h"
#include "placement/plan_links.h"
#include "placement/wire_dtypes.h"

namespace thermocline::tools {
namespace {

Result<placement::ClusterProfile> EqualWorkers(const PlanFlags& flags) {
  const auto memory = ParseBytes(flags.memory.empty() ? "16G" : flags.memory);
  if (!memory.ok()) return memory.status().WithContext("--memory");
  placement::ClusterProfile cluster;
  for (int i = 1; i <= flags.n_workers; ++i) {
    placement::WorkerProfile& worker = cluster.workers.emplace_back();
    worker.id = {static_cast<uint64_t>(i)};
    worker.host = Str("node", i);
    worker.memory_bytes = *memory;
    if (flags.read_gb_per_s > 0) {
      worker.read_bytes_per_s = {flags.read_gb_per_s * 1e9, placement::Origin::kGiven};
    }
  }
  return cluster;
}

Result<placement::ClusterProfile> ReadCluster(const PlanFlags& flags,
                                              placement::LinkKind transport) {
  placement::ClusterProfile cluster;
  if (flags.cluster_path.empty()) {
    TC_ASSIGN_OR_RETURN(cluster, EqualWorkers(flags));
  } else {
    const auto text = ReadTextFile(flags.cluster_path, placement::kMaxClusterYamlBytes);
    if (!text.ok()) return text.status().WithContext("--cluster");
    auto parsed = placement::ClusterFromYaml(*text);
    if (!parsed.ok()) return parsed.status().WithContext(Str("--cluster ", flags.cluster_path));
    cluster = *std::move(parsed);
  }
  TC_ASSIGN_OR_RETURN(const placement::LinkPreset preset, placement::FindLinkPreset(flags.link));
  TC_RETURN_IF_ERROR(placement::FillLinks(preset, transport, &cluster));
  placement::AssumeRates(&cluster);
  return cluster;
}

// From the profile beside the model, which also says the order of its neurons; else every neuron is
// as likely as any other.
Status ReadHeats(const PlanFlags& flags, PlanSources* sources) {
  const model::ModelConfig& config = sources->model.config;
  const std::string path = model::ProfilePathOf(flags.model_path);
  if (flags.active < 0 && std::filesystem::exists(path)) {
    TC_ASSIGN_OR_RETURN(const auto reader, model::OpenMappedFile(path));
    TC_ASSIGN_OR_RETURN(const model::SparsityProfile profile, model::ReadSparsityProfile(*reader));
    TC_RETURN_IF_ERROR(model::CheckProfileOf(profile, sources->fingerprint).WithContext(path));
    auto heats = placement::HeatsOf(profile, config);
    if (!heats.ok()) return heats.status().WithContext(path);
    sources->heats = *std::move(heats);
    sources->heat_source = path;
    return OkStatus();
  }
  const double active = flags.active < 0 ? 1 : flags.active;
  sources->heats = placement::UniformHeats(config, active);
  sources->heat_source = flags.active < 0 ? Str("no ", path, ": every neuron counts as active")
                                          : std::string("--active");
  return OkStatus();
}

// Of a cluster that is known.
Status ReadOptions(const PlanFlags& flags, PlanSources* sources) {
  placement::PlannerOptions& options = sources->options;
  placement::PlanRequest& request = options.request;
  request.n_ctx = flags.n_ctx;
  request.n_parallel = flags.n_parallel;
  request.max_step_tokens = flags.batch_size;
  request.model_fingerprint = sources->fingerprint;
  TC_ASSIGN_OR_RETURN(const auto wire, placement::ParseWireDtypes(flags.wire_dtype));
  request.wire = wire.within;
  request.wire_between_hosts = wire.between;
  TC_ASSIGN_OR_RETURN(request.kv.dtype, model::ParseKvDtype(flags.kv_dtype));
  TC_ASSIGN_OR_RETURN(const model::FfnWish wish,
                      model::ParseFfnWish(flags.ffn, flags.allowed_loss));
  TC_ASSIGN_OR_RETURN(request.ffn,
                      model::ResolveFfnModes(sources->model.config, sources->model.sparsity, wish));
  options.n_sequences = flags.n_sequences;
  options.n_streams = StreamsOf(flags);
  std::optional<int64_t> depth;
  if (flags.n_depth >= 0) depth = flags.n_depth;
  TC_ASSIGN_OR_RETURN(options.n_context, placement::DepthToPlanFor(sources->model.config, request,
                                                                   options.n_streams, depth));
  options.max_group = flags.max_group;
  const std::string_view objective = flags.objective;
  TC_ASSIGN_OR_RETURN(
      options.latency_weight,
      placement::ParseObjective(objective.empty() ? placement::DefaultObjective(StreamsOf(flags))
                                                  : objective));
  const auto policy = placement::ParseSplitPolicy(flags.policy);
  if (!policy) {
    return InvalidArgument(
        Str("--policy is not optimal, frequency-greedy, proportional, "
            "pipeline-only or powerinfer: ",
            Printable(flags.policy)));
  }
  options.policy = *policy;
  return OkStatus();
}

// For its format; against the model and the cluster it is completed later.
Status ReadGivenPlan(const PlanFlags& flags, PlanSources* sources) {
  const auto text = ReadTextFile(flags.plan_path, placement::kMaxPlanFileBytes);
  if (!text.ok()) return text.status().WithContext("--plan");
  auto given = placement::ReadPlan(*text, sources->cluster, sources->options.request);
  if (!given.ok()) return given.status().WithContext(flags.plan_path);
  sources->given = *std::move(given);
  return OkStatus();
}

}  // namespace

Result<PlanSources> ReadPlanSources(const PlanFlags& flags) {
  PlanSources sources;
  TC_ASSIGN_OR_RETURN(sources.model, worker::OpenModel(flags.model_path));
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(*sources.model.reader));
  TC_ASSIGN_OR_RETURN(sources.fingerprint, model::FingerprintOf(*sources.model.reader, file));
  const std::string sparsity = model::FindSparsityFile(flags.predictor_path, flags.model_path);
  if (!sparsity.empty()) {
    TC_RETURN_IF_ERROR(worker::AttachSparsityFile(sparsity, &sources.model));
  }
  TC_RETURN_IF_ERROR(ReadHeats(flags, &sources));
  placement::LinkKind& link = sources.options.request.link;
  sources.options.request.link_by_pair = LeavesTransport(flags);
  if (!LeavesTransport(flags)) {
    TC_ASSIGN_OR_RETURN(link, placement::ParseLinkKind(flags.transport));
  }
  TC_ASSIGN_OR_RETURN(sources.cluster, ReadCluster(flags, link));
  TC_RETURN_IF_ERROR(ReadOptions(flags, &sources));
  if (!flags.plan_path.empty()) {
    TC_RETURN_IF_ERROR(ReadGivenPlan(flags, &sources));
  }
  return sources;
}

}  // namespace thermocline::tools
