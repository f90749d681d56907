#include "worker/assignment.h"

#include <algorithm>

#include "base/str.h"
#include "comm/join_ticket.h"
#include "comm/mailbox.h"
#include "model/file_names.h"
#include "model/fingerprint.h"
#include "model/sparsity_profile.h"
#include "worker/byte_ranges.h"
#include "worker/held_weights.h"
#include "worker/slice_store.h"

namespace thermocline::worker {
namespace {

Status Describe(const model::GgufFile& file, LoadedModel* loaded) {
  TC_ASSIGN_OR_RETURN(loaded->config, model::ModelConfig::FromGguf(file));
  TC_ASSIGN_OR_RETURN(loaded->weights, model::WeightIndex::Build(loaded->config, file));
  TC_ASSIGN_OR_RETURN(loaded->sparsity,
                      model::SparsityOfModel(file, loaded->config, loaded->weights));
  return OkStatus();
}

Status TakeOrder(const model::RangeReader& reader, const model::GgufFile& file,
                 LoadedModel* loaded) {
  TC_ASSIGN_OR_RETURN(const model::SparsityProfile profile, model::ReadSparsityProfile(reader));
  TC_ASSIGN_OR_RETURN(const std::string fingerprint, model::FingerprintOf(*loaded->reader, file));
  TC_RETURN_IF_ERROR(model::CheckProfileOf(profile, fingerprint).WithContext(reader.name()));
  if (profile.n_ff() != loaded->config.n_ff ||
      profile.layers.size() != static_cast<size_t>(loaded->config.n_layer)) {
    return InvalidArgument(Str(reader.name(), ": profile of another shape:",
                               Kv("n_ff", profile.n_ff()), Kv("layers", profile.layers.size())));
  }
  loaded->neuron_order = model::HeatOrder(profile);
  return OkStatus();
}

Status OrderNeurons(const std::string& model_path, const model::GgufFile& file,
                    LoadedModel* loaded) {
  const auto reader = model::OpenMappedFile(model::ProfilePathOf(model_path));
  if (reader.status().code() == StatusCode::kNotFound) return OkStatus();
  TC_RETURN_IF_ERROR(reader.status());
  return TakeOrder(**reader, file, loaded)
      .WithContext(
          "the profile beside the model cannot be used (remove it, or run `thermocline profile` "
          "again)");
}

enum class OrderFrom : uint8_t { kProfile, kFile };

// Errors name the path. `fingerprint` may be null.
Result<LoadedModel> ParseModel(const std::string& path, std::unique_ptr<model::RangeReader> reader,
                               OrderFrom order, std::string* fingerprint) {
  LoadedModel loaded;
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(*reader));
  const Status described = Describe(file, &loaded);
  if (!described.ok()) return described.WithContext(path);
  if (fingerprint != nullptr) {
    TC_ASSIGN_OR_RETURN(*fingerprint, model::FingerprintOf(*reader, file));
  }
  // Pages of the header, vocabulary included: what is needed of it has been copied.
  reader->Evict(0, reader->size_bytes());
  loaded.reader = std::move(reader);
  if (order == OrderFrom::kProfile) TC_RETURN_IF_ERROR(OrderNeurons(path, file, &loaded));
  return loaded;
}

Result<LoadedModel> OpenLocal(const proto::AssignPlan& message) {
  TC_ASSIGN_OR_RETURN(auto reader, model::OpenMappedFile(message.model_path));
  std::string fingerprint;
  TC_ASSIGN_OR_RETURN(LoadedModel loaded, ParseModel(message.model_path, std::move(reader),
                                                     OrderFrom::kProfile, &fingerprint));
  if (fingerprint != message.model_fingerprint) {
    return InvalidArgument(Str("another model than the coordinator's lies at ", message.model_path,
                               Kv("fingerprint", fingerprint),
                               Kv("expected", message.model_fingerprint),
                               "; copy the file or use --weights-from coordinator"));
  }
  return loaded;
}

Result<std::unique_ptr<comm::Mailbox>> ConnectBulk(const Assignment& assignment,
                                                   const std::atomic<bool>& stop) {
  comm::ZmqMailboxOptions options;
  options.key = assignment.key;
  TC_ASSIGN_OR_RETURN(options.endpoints, comm::ParseEndpoints(assignment.message.bulk_endpoint));
  options.self = comm::PeerId{assignment.peer};
  options.stop = &stop;
  return comm::ConnectZmqMailbox(options);
}

// This member's own weights and, when they lie in the same file, its predictors.
std::vector<model::ByteRange> RangesToFetch(const Assignment& assignment,
                                            const LoadedModel& loaded) {
  const model::LayerRange& layers = assignment.stage().layers;
  const FfnPlan ffn = assignment.ffn();
  const auto held = [&](const std::vector<model::WeightKey>& keys) {
    return HeldRanges(loaded.weights, keys, layers, ffn, loaded.config.n_head_kv,
                      loaded.neuron_order);
  };
  std::vector<model::ByteRange> ranges = held(loaded.weights.KeysOf(layers));
  if (ffn.has_predictors() && assignment.message.sparsity_path.empty()) {
    const auto predictors = held(loaded.weights.PredictorKeysOf(layers));
    ranges.insert(ranges.end(), predictors.begin(), predictors.end());
  }
  return Merged(std::move(ranges));
}

Result<SliceCache> OpenCache(const Assignment& assignment) {
  FetchOptions options;
  options.cache_dir = assignment.cache_dir;
  options.fingerprint = assignment.message.model_fingerprint;
  options.model_bytes = assignment.message.model_bytes;
  return SliceCache::Open(options);
}

// Layers of which no table came keep their order.
Status TakeNeuronTables(const Assignment& assignment, LoadedModel* model) {
  const auto n_tables = static_cast<int>(assignment.neuron_tables.size());
  if (n_tables != assignment.message.n_neuron_tables) {
    return DataLoss(Str("plan without all of its neuron tables:", Kv("tables", n_tables),
                        Kv("announced", assignment.message.n_neuron_tables)));
  }
  if (n_tables == 0) return OkStatus();
  const auto n_layer = static_cast<size_t>(model->config.n_layer);
  model->neuron_order.layers.resize(n_layer);
  for (const proto::NeuronTable& table : assignment.neuron_tables) {
    const auto layer = static_cast<size_t>(table.layer);
    if (layer >= n_layer || static_cast<int64_t>(table.neurons.size()) != model->config.n_ff) {
      return DataLoss(Str("neuron table of another model:", Kv("layer", table.layer),
                          Kv("neurons", table.neurons.size()), Kv("n_layer", n_layer),
                          Kv("n_ff", model->config.n_ff)));
    }
    model->neuron_order.layers[layer] = table.neurons;
  }
  return OkStatus();
}

// The header first, since it says where the stage's ranges are. A copy has no profile beside it.
Result<LoadedModel> OpenFetched(const Assignment& assignment, const Clock& clock,
                                const std::atomic<bool>& stop, const LoadProgressFn& on_progress) {
  const proto::AssignPlan& message = assignment.message;
  TC_ASSIGN_OR_RETURN(SliceCache cache, OpenCache(assignment));
  TC_ASSIGN_OR_RETURN(auto bulk, ConnectBulk(assignment, stop));
  // Of the stage nothing has come yet, however much of the header has.
  const auto on_header = [&](uint64_t, uint64_t) { return on_progress(0, message.model_bytes); };
  TC_RETURN_IF_ERROR(cache.Fetch({{0, message.header_bytes}}, *bulk, clock, on_header));
  TC_ASSIGN_OR_RETURN(auto reader, model::OpenMappedFile(cache.path()));
  TC_ASSIGN_OR_RETURN(LoadedModel loaded,
                      ParseModel(cache.path(), std::move(reader), OrderFrom::kFile, nullptr));
  TC_RETURN_IF_ERROR(CheckNeurons(assignment.stage(), loaded.config));
  TC_RETURN_IF_ERROR(TakeNeuronTables(assignment, &loaded));
  loaded.fetched = RangesToFetch(assignment, loaded);
  TC_RETURN_IF_ERROR(cache.Fetch(loaded.fetched, *bulk, clock, on_progress));
  loaded.fetched_bytes = cache.fetched_bytes();
  return loaded;
}

Status Attach(const std::string& path, const std::string& model_fingerprint, LoadedModel* model) {
  TC_ASSIGN_OR_RETURN(model::SparsityFile file,
                      model::OpenSparsityFile(path, model->config, model_fingerprint));
  model::AttachSparsity(file, &model->weights, &model->sparsity);
  model->predictor_reader = std::move(file.reader);
  return OkStatus();
}

}  // namespace

Result<LoadedModel> OpenModel(const std::string& path) {
  TC_ASSIGN_OR_RETURN(auto reader, model::OpenMappedFile(path));
  return ParseModel(path, std::move(reader), OrderFrom::kProfile, nullptr);
}

Result<LoadedModel> OpenModelInFileOrder(const std::string& path) {
  TC_ASSIGN_OR_RETURN(auto reader, model::OpenMappedFile(path));
  return ParseModel(path, std::move(reader), OrderFrom::kFile, nullptr);
}

Status AttachSparsityFile(const std::string& path, LoadedModel* model) {
  TC_ASSIGN_OR_RETURN(const model::GgufFile header, model::GgufFile::Parse(*model->reader));
  TC_ASSIGN_OR_RETURN(const std::string fingerprint, model::FingerprintOf(*model->reader, header));
  return Attach(path, fingerprint, model);
}

placement::LinkWay Assignment::WayToLead() const {
  return WayToHelper(static_cast<size_t>(message.helper));
}

placement::LinkWay Assignment::WayToPrevious() const {
  const auto at = static_cast<size_t>(message.stage);
  return message.plan.WayOf(message.plan.stages[at - 1].to_next);
}

placement::LinkWay Assignment::WayToHelper(size_t helper) const {
  return message.plan.WayOf(stage().helpers[helper].to_lead);
}

std::vector<placement::LinkWay> Assignment::Ways() const {
  if (is_helper()) return {WayToLead()};
  std::vector<placement::LinkWay> ways;
  if (message.stage > 0) ways.push_back(WayToPrevious());
  if (message.stage + 1 < static_cast<int>(message.plan.stages.size())) ways.push_back(WayToNext());
  for (size_t h = 0; h < stage().helpers.size(); ++h) ways.push_back(WayToHelper(h));
  return ways;
}

bool Assignment::IsInGroup(int helper) const {
  const auto& members = message.nccl_helpers;
  return std::find(members.begin(), members.end(), helper) != members.end();
}

bool Assignment::is_in_group() const {
  return is_helper() ? IsInGroup(message.helper) : !message.nccl_helpers.empty();
}

bool Assignment::meets_gpus() const {
  return is_in_group() || !message.previous_nccl_id.empty() || !message.next_nccl_id.empty();
}

int Assignment::group_rank() const {
  if (!is_helper()) return 0;
  const auto& members = message.nccl_helpers;
  const auto place = std::find(members.begin(), members.end(), message.helper);
  return 1 + static_cast<int>(place - members.begin());
}

std::vector<bool> Assignment::GroupLayers() const {
  const placement::StagePlan& plan = stage();
  std::vector<bool> layers;
  if (message.nccl_helpers.empty()) return layers;
  for (size_t layer = 0; layer < plan.neurons.size(); ++layer) {
    layers.push_back(
        std::all_of(message.nccl_helpers.begin(), message.nccl_helpers.end(), [&](int helper) {
          return !plan.helpers[static_cast<size_t>(helper)].neurons[layer].empty();
        }));
  }
  return layers;
}

bool Assignment::HasHeadsInGroup() const {
  const auto& members = message.nccl_helpers;
  return !members.empty() && std::all_of(members.begin(), members.end(), [&](int helper) {
    return !stage().helpers[static_cast<size_t>(helper)].heads.empty();
  });
}

std::vector<size_t> Assignment::LinkHeads() const {
  const auto& helpers = stage().helpers;
  const bool by_group = HasHeadsInGroup();
  std::vector<size_t> own;
  for (size_t h = 0; h < helpers.size(); ++h) {
    const bool is_in_group = by_group && IsInGroup(static_cast<int>(h));
    if (!helpers[h].heads.empty() && !is_in_group) own.push_back(h);
  }
  return own;
}

model::HeadShare Assignment::heads() const {
  const placement::StagePlan& plan = stage();
  model::HeadShare share;
  if (!plan.shares_heads()) return share;
  const bool by_group = HasHeadsInGroup();
  if (is_helper()) {
    share.own = plan.helpers[static_cast<size_t>(message.helper)].heads;
    share.in_group = by_group && IsInGroup(message.helper);
    return share;
  }
  share.own = plan.heads;
  if (by_group) {
    for (const int helper : message.nccl_helpers) {
      share.by_group.push_back(plan.helpers[static_cast<size_t>(helper)].heads);
    }
  }
  for (const size_t h : LinkHeads()) share.by_link.push_back(plan.helpers[h].heads);
  return share;
}

FfnPlan Assignment::ffn() const {
  const placement::StagePlan& plan = stage();
  FfnPlan ffn{.modes = message.ffn, .rows = rows};
  if (!plan.is_split()) return ffn;
  ffn.heads = heads();
  if (is_in_group()) ffn.in_group = GroupLayers();
  if (is_helper()) {
    ffn.neurons = plan.helpers[static_cast<size_t>(message.helper)].neurons;
    ffn.is_helper = true;
    return ffn;
  }
  ffn.neurons = plan.neurons;
  for (const auto& helpers : LinkHelpers())
    ffn.n_helpers.push_back(static_cast<int>(helpers.size()));
  return ffn;
}

std::vector<std::vector<size_t>> Assignment::LinkHelpers() const {
  const placement::StagePlan& plan = stage();
  const std::vector<bool> by_group = GroupLayers();
  std::vector<std::vector<size_t>> layers(plan.neurons.size());
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    for (size_t h = 0; h < plan.helpers.size(); ++h) {
      if (plan.helpers[h].neurons[layer].empty()) continue;
      const bool in_group = !by_group.empty() && by_group[layer] && IsInGroup(static_cast<int>(h));
      if (!in_group) layers[layer].push_back(h);
    }
  }
  return layers;
}

Status CheckGroup(const proto::AssignPlan& message) {
  const bool meets_nobody =
      (!message.previous_nccl_id.empty() && message.previous_address.empty()) ||
      (!message.next_nccl_id.empty() && message.next_address.empty());
  if (meets_nobody) {
    return DataLoss(Str("plan with a GPU to meet in a stage that is not there:",
                        Kv("stage", message.stage), Kv("helper", message.helper)));
  }
  const auto& members = message.nccl_helpers;
  if (members.empty()) return OkStatus();
  const auto& helpers = message.plan.stages[static_cast<size_t>(message.stage)].helpers;
  if (members.back() >= static_cast<int>(helpers.size()) || message.nccl_id.empty()) {
    return DataLoss(Str("plan with a group of GPUs that cannot be:", Kv("stage", message.stage),
                        Kv("helpers", helpers.size()), Kv("last_member", members.back()),
                        Kv("id_bytes", message.nccl_id.size())));
  }
  return OkStatus();
}

Status CheckNeurons(const placement::StagePlan& stage, const model::ModelConfig& config) {
  if (stage.layers.begin < 0 || stage.layers.end > config.n_layer) {
    return DataLoss(Str("plan with layers that the model lacks:", Kv("begin", stage.layers.begin),
                        Kv("end", stage.layers.end), Kv("n_layer", config.n_layer)));
  }
  if (!stage.is_split()) return OkStatus();
  const auto n_layers = static_cast<size_t>(stage.layers.end - stage.layers.begin);
  const auto check = [&](WorkerId worker, const std::vector<model::NeuronRange>& neurons) {
    const auto is_bad = [&](const model::NeuronRange& range) {
      return range.begin < 0 || range.end < range.begin || range.end > config.n_ff;
    };
    if (neurons.size() == n_layers && std::none_of(neurons.begin(), neurons.end(), is_bad)) {
      return OkStatus();
    }
    return DataLoss(Str("plan with neurons that the model lacks:", Kv("worker", worker),
                        Kv("layers", neurons.size()), Kv("stage_layers", n_layers),
                        Kv("n_ff", config.n_ff)));
  };
  const auto check_heads = [&](WorkerId worker, const model::HeadRange& heads) {
    const bool is_good =
        0 <= heads.begin && heads.begin <= heads.end && heads.end <= config.n_head_kv;
    if (is_good) return OkStatus();
    return DataLoss(Str("plan with heads that the model lacks:", Kv("worker", worker),
                        Kv("begin", heads.begin), Kv("end", heads.end),
                        Kv("n_head_kv", config.n_head_kv)));
  };
  TC_RETURN_IF_ERROR(check(stage.lead, stage.neurons));
  TC_RETURN_IF_ERROR(check_heads(stage.lead, stage.heads));
  for (const placement::HelperPlan& helper : stage.helpers) {
    TC_RETURN_IF_ERROR(check(helper.worker, helper.neurons));
    TC_RETURN_IF_ERROR(check_heads(helper.worker, helper.heads));
  }
  return OkStatus();
}

Result<LoadedModel> OpenAssignedModel(const Assignment& assignment, const Clock& clock,
                                      const std::atomic<bool>& stop,
                                      const LoadProgressFn& on_progress) {
  const proto::AssignPlan& message = assignment.message;
  LoadedModel loaded;
  if (message.weights_from == proto::WeightsFrom::kCoordinator) {
    TC_ASSIGN_OR_RETURN(loaded, OpenFetched(assignment, clock, stop, on_progress));
  } else {
    TC_ASSIGN_OR_RETURN(loaded, OpenLocal(message));
    TC_RETURN_IF_ERROR(CheckNeurons(assignment.stage(), loaded.config));
    TC_RETURN_IF_ERROR(TakeNeuronTables(assignment, &loaded));
  }
  if (!message.sparsity_path.empty()) {
    TC_RETURN_IF_ERROR(Attach(message.sparsity_path, message.model_fingerprint, &loaded));
  }
  return loaded;
}

Status ReassignModel(const Assignment& assignment, const Clock& clock,
                     const std::atomic<bool>& stop, const LoadProgressFn& on_progress,
                     LoadedModel* model) {
  model->fetched_bytes = 0;
  TC_RETURN_IF_ERROR(CheckNeurons(assignment.stage(), model->config));
  TC_RETURN_IF_ERROR(TakeNeuronTables(assignment, model));
  if (assignment.message.weights_from != proto::WeightsFrom::kCoordinator) return OkStatus();
  std::vector<model::ByteRange> missing =
      Without(RangesToFetch(assignment, *model), model->fetched);
  if (missing.empty()) return OkStatus();
  TC_ASSIGN_OR_RETURN(SliceCache cache, OpenCache(assignment));
  TC_ASSIGN_OR_RETURN(auto bulk, ConnectBulk(assignment, stop));
  TC_RETURN_IF_ERROR(cache.Fetch(missing, *bulk, clock, on_progress));
  model->fetched_bytes = cache.fetched_bytes();
  missing.insert(missing.end(), model->fetched.begin(), model->fetched.end());
  model->fetched = Merged(std::move(missing));
  return OkStatus();
}

}  // namespace thermocline::worker
