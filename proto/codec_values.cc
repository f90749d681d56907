// Each value has a Put and a Get; the two stand side by side so that a new field is added to both.
#include "proto/codec_values.h"

#include "proto/codec_fields.h"
#include "thermocline.pb.h"

namespace thermocline::proto {
namespace {

// Thread counts, or weight types times batch sizes, that a worker may have measured.
constexpr int64_t kMaxRates = 1024;

// Rates are measured of types of memory, too, which no file has.
constexpr DType kLastDType = static_cast<DType>(kNumDTypes - 1);

void Put(const placement::Figure& in, wire::Figure* out) {
  out->set_value(in.value);
  out->set_origin(static_cast<uint32_t>(in.origin));
}

// Rates and times: none is negative.
Status Get(std::string_view field, const wire::Figure& in, placement::Figure* out) {
  TC_RETURN_IF_ERROR(GetFinite(field, in.value(), &out->value));
  if (in.value() < 0) return DataLoss(Str("message: ", field, " is negative"));
  return GetEnum(field, in.origin(), placement::Origin::kMeasured, &out->origin);
}

void PutRates(const placement::WorkerProfile& in, wire::WorkerProfile* out) {
  for (const placement::ReadRate& rate : in.read_rates) {
    wire::ReadRate* const added = out->add_read_rates();
    added->set_n_threads(rate.n_threads);
    Put(rate.bytes_per_s, added->mutable_bytes_per_s());
  }
  for (const placement::ComputeRate& rate : in.compute_rates) {
    wire::ComputeRate* const added = out->add_compute_rates();
    added->set_dtype(static_cast<uint32_t>(rate.dtype));
    added->set_n_tokens(rate.n_tokens);
    Put(rate.flops_per_s, added->mutable_flops_per_s());
  }
  for (const placement::WeightRate& rate : in.weight_rates) {
    wire::WeightRate* const added = out->add_weight_rates();
    added->set_use(static_cast<uint32_t>(rate.use));
    added->set_dtype(static_cast<uint32_t>(rate.dtype));
    added->set_row_share(rate.row_share);
    added->set_n_tokens(rate.n_tokens);
    Put(rate.bytes_per_s, added->mutable_bytes_per_s());
  }
}

Status GetWeightRates(const wire::WorkerProfile& in, placement::WorkerProfile* out) {
  using placement::WeightUse;
  TC_RETURN_IF_ERROR(CheckCount("profile.weight_rates", in.weight_rates_size(), kMaxRates));
  for (const wire::WeightRate& rate : in.weight_rates()) {
    placement::WeightRate& added = out->weight_rates.emplace_back();
    TC_RETURN_IF_ERROR(GetEnum("weight_rates.use", rate.use(), WeightUse::kAxpyRows, &added.use));
    TC_RETURN_IF_ERROR(GetEnum("weight_rates.dtype", rate.dtype(), kLastDType, &added.dtype));
    TC_RETURN_IF_ERROR(GetFinite("weight_rates.row_share", rate.row_share(), &added.row_share));
    if (!(added.row_share > 0 && added.row_share <= 1)) {
      return DataLoss(Str("message: weight_rates.row_share is no share: ", added.row_share));
    }
    TC_RETURN_IF_ERROR(
        GetInt("weight_rates.n_tokens", rate.n_tokens(), 1, kMaxInt, &added.n_tokens));
    TC_RETURN_IF_ERROR(Get("weight_rates.bytes_per_s", rate.bytes_per_s(), &added.bytes_per_s));
  }
  return OkStatus();
}

Status GetRates(const wire::WorkerProfile& in, placement::WorkerProfile* out) {
  TC_RETURN_IF_ERROR(CheckCount("profile.read_rates", in.read_rates_size(), kMaxRates));
  for (const wire::ReadRate& rate : in.read_rates()) {
    placement::ReadRate& added = out->read_rates.emplace_back();
    TC_RETURN_IF_ERROR(
        GetInt("read_rates.n_threads", rate.n_threads(), 1, kMaxInt, &added.n_threads));
    TC_RETURN_IF_ERROR(Get("read_rates.bytes_per_s", rate.bytes_per_s(), &added.bytes_per_s));
  }
  TC_RETURN_IF_ERROR(CheckCount("profile.compute_rates", in.compute_rates_size(), kMaxRates));
  for (const wire::ComputeRate& rate : in.compute_rates()) {
    placement::ComputeRate& added = out->compute_rates.emplace_back();
    TC_RETURN_IF_ERROR(GetEnum("compute_rates.dtype", rate.dtype(), kLastDType, &added.dtype));
    TC_RETURN_IF_ERROR(
        GetInt("compute_rates.n_tokens", rate.n_tokens(), 1, kMaxInt, &added.n_tokens));
    TC_RETURN_IF_ERROR(Get("compute_rates.flops_per_s", rate.flops_per_s(), &added.flops_per_s));
  }
  return GetWeightRates(in, out);
}

void Put(const placement::GpuPeer& in, wire::GpuPeer* out) {
  out->set_gpu(in.gpu);
  out->set_path(static_cast<uint32_t>(in.path));
  out->set_n_nvlinks(in.n_nvlinks);
  out->set_preset(in.preset);
  Put(in.latency_s, out->mutable_latency_s());
  Put(in.bytes_per_s, out->mutable_bytes_per_s());
}

Status Get(const wire::GpuPeer& in, int n_gpus, placement::GpuPeer* out) {
  TC_RETURN_IF_ERROR(GetInt("peer.gpu", in.gpu(), 0, n_gpus - 1, &out->gpu));
  TC_RETURN_IF_ERROR(GetEnum("peer.path", in.path(), placement::GpuPath::kSystem, &out->path));
  TC_RETURN_IF_ERROR(GetInt("peer.n_nvlinks", in.n_nvlinks(), 0, kMaxInt, &out->n_nvlinks));
  TC_RETURN_IF_ERROR(GetText("peer.preset", in.preset(), &out->preset));
  TC_RETURN_IF_ERROR(Get("peer.latency_s", in.latency_s(), &out->latency_s));
  return Get("peer.bytes_per_s", in.bytes_per_s(), &out->bytes_per_s);
}

void Put(const placement::GpuInfo& in, wire::GpuInfo* out) {
  out->set_name(in.name);
  out->set_pci_bus_id(in.pci_bus_id);
  out->set_driver(in.driver);
  out->set_compute_capability(in.compute_capability);
  out->set_memory_bytes(in.memory_bytes);
  out->set_free_bytes(in.free_bytes);
  out->set_pcie_generation(in.pcie_generation);
  out->set_pcie_lanes(in.pcie_lanes);
  out->set_n_nvlinks(in.n_nvlinks);
  out->set_nvlink_generation(in.nvlink_generation);
  out->set_numa_node(in.numa_node);
  out->set_cpus(in.cpus);
  Put(in.read_bytes_per_s, out->mutable_read_bytes_per_s());
  Put(in.upload_bytes_per_s, out->mutable_upload_bytes_per_s());
  Put(in.download_bytes_per_s, out->mutable_download_bytes_per_s());
  Put(in.copy_s, out->mutable_copy_s());
  for (const placement::GpuPeer& peer : in.peers) Put(peer, out->add_peers());
}

Status GetGpuFacts(const wire::GpuInfo& in, placement::GpuInfo* out) {
  TC_RETURN_IF_ERROR(GetText("gpu.name", in.name(), &out->name));
  TC_RETURN_IF_ERROR(GetText("gpu.pci_bus_id", in.pci_bus_id(), &out->pci_bus_id));
  TC_RETURN_IF_ERROR(GetText("gpu.driver", in.driver(), &out->driver));
  TC_RETURN_IF_ERROR(GetText("gpu.cpus", in.cpus(), &out->cpus));
  TC_RETURN_IF_ERROR(GetInt("gpu.compute_capability", in.compute_capability(), 0, kMaxInt,
                            &out->compute_capability));
  TC_RETURN_IF_ERROR(
      GetInt("gpu.pcie_generation", in.pcie_generation(), 0, kMaxInt, &out->pcie_generation));
  TC_RETURN_IF_ERROR(GetInt("gpu.pcie_lanes", in.pcie_lanes(), 0, kMaxInt, &out->pcie_lanes));
  TC_RETURN_IF_ERROR(GetInt("gpu.n_nvlinks", in.n_nvlinks(), 0, kMaxInt, &out->n_nvlinks));
  TC_RETURN_IF_ERROR(
      GetInt("gpu.nvlink_generation", in.nvlink_generation(), 0, kMaxInt, &out->nvlink_generation));
  return GetInt("gpu.numa_node", in.numa_node(), -1, kMaxInt, &out->numa_node);
}

Status Get(const wire::GpuInfo& in, int n_gpus, placement::GpuInfo* out) {
  TC_RETURN_IF_ERROR(GetGpuFacts(in, out));
  out->memory_bytes = in.memory_bytes();
  out->free_bytes = in.free_bytes();
  TC_RETURN_IF_ERROR(Get("gpu.read_bytes_per_s", in.read_bytes_per_s(), &out->read_bytes_per_s));
  TC_RETURN_IF_ERROR(
      Get("gpu.upload_bytes_per_s", in.upload_bytes_per_s(), &out->upload_bytes_per_s));
  TC_RETURN_IF_ERROR(
      Get("gpu.download_bytes_per_s", in.download_bytes_per_s(), &out->download_bytes_per_s));
  TC_RETURN_IF_ERROR(Get("gpu.copy_s", in.copy_s(), &out->copy_s));
  TC_RETURN_IF_ERROR(CheckCount("gpu.peers", in.peers_size(), placement::kMaxGpus));
  for (const wire::GpuPeer& peer : in.peers()) {
    TC_RETURN_IF_ERROR(Get(peer, n_gpus, &out->peers.emplace_back()));
  }
  return OkStatus();
}

Status GetGpus(const wire::WorkerProfile& in, placement::WorkerProfile* out) {
  TC_RETURN_IF_ERROR(CheckCount("profile.gpus", in.gpus_size(), placement::kMaxGpus));
  for (const wire::GpuInfo& gpu : in.gpus()) {
    TC_RETURN_IF_ERROR(Get(gpu, in.gpus_size(), &out->gpus.emplace_back()));
  }
  return OkStatus();
}

void Put(const std::vector<placement::NeuronRange>& in, wire::NeuronRanges* out) {
  for (const placement::NeuronRange& range : in) {
    out->add_begin(range.begin);
    out->add_end(range.end);
  }
}

Status Get(std::string_view field, const wire::NeuronRanges& in,
           std::vector<placement::NeuronRange>* out) {
  TC_RETURN_IF_ERROR(CheckCount(field, in.begin_size(), model::kMaxLayers));
  if (in.begin_size() != in.end_size()) return DataLoss(Str("message: ", field, " has odd ends"));
  out->resize(static_cast<size_t>(in.begin_size()));
  for (int i = 0; i < in.begin_size(); ++i) {
    placement::NeuronRange& range = (*out)[static_cast<size_t>(i)];
    TC_RETURN_IF_ERROR(GetInt(field, in.begin(i), 0, model::kMaxFf, &range.begin));
    TC_RETURN_IF_ERROR(GetInt(field, in.end(i), in.begin(i), model::kMaxFf, &range.end));
  }
  return OkStatus();
}

Status GetWire(std::string_view field, uint32_t in, DType* out) {
  TC_RETURN_IF_ERROR(GetEnum(field, in, kLastDType, out));
  if (IsFloat(*out)) return OkStatus();
  return DataLoss(Str("message: ", field, " is no float type: ", DTypeName(*out)));
}

void Put(const placement::LinkChoice& in, wire::LinkChoice* out) {
  if (in.link) out->set_link(static_cast<uint32_t>(*in.link));
  if (in.wire) out->set_wire(static_cast<uint32_t>(*in.wire));
}

Status Get(const wire::LinkChoice& in, placement::LinkChoice* out) {
  using placement::LinkKind;
  if (in.has_link()) {
    TC_RETURN_IF_ERROR(GetEnum("link.link", in.link(), LinkKind::kZmq, &out->link.emplace()));
  }
  if (!in.has_wire()) return OkStatus();
  return GetWire("link.wire", in.wire(), &out->wire.emplace());
}

void Put(const model::HeadRange& in, wire::HeadRange* out) {
  out->set_begin(in.begin);
  out->set_end(in.end);
}

Status Get(const char* name, const wire::HeadRange& in, model::HeadRange* out) {
  TC_RETURN_IF_ERROR(GetInt(name, in.begin(), 0, model::kMaxHeads, &out->begin));
  return GetInt(name, in.end(), in.begin(), model::kMaxHeads, &out->end);
}

void Put(const placement::HelperPlan& in, wire::HelperPlan* out) {
  out->set_worker(in.worker.value);
  Put(in.neurons, out->mutable_neurons());
  out->set_weights_bytes(in.bytes.weights);
  out->set_relay_bytes(in.bytes.relay);
  out->set_predictor_bytes(in.bytes.predictors);
  out->set_saved_bytes(in.bytes.saved);
  out->set_reason(Cut(in.reason));
  if (in.heads != model::HeadRange{}) Put(in.heads, out->mutable_heads());
  out->set_kv_bytes(in.kv_bytes);
  if (in.to_lead != placement::LinkChoice{}) Put(in.to_lead, out->mutable_to_lead());
}

Status Get(const wire::HelperPlan& in, placement::HelperPlan* out) {
  out->worker = {in.worker()};
  out->bytes = {in.weights_bytes(), in.relay_bytes(), in.predictor_bytes(), in.saved_bytes()};
  TC_RETURN_IF_ERROR(Get("helper.neurons", in.neurons(), &out->neurons));
  TC_RETURN_IF_ERROR(Get("helper.heads", in.heads(), &out->heads));
  out->kv_bytes = in.kv_bytes();
  TC_RETURN_IF_ERROR(Get(in.to_lead(), &out->to_lead));
  return GetText("helper.reason", in.reason(), &out->reason);
}

void Put(const placement::StagePlan& in, wire::StagePlan* out) {
  out->set_lead(in.lead.value);
  out->set_layer_begin(in.layers.begin);
  out->set_layer_end(in.layers.end);
  out->set_has_embed(in.layers.has_embed);
  out->set_has_head(in.layers.has_head);
  out->set_weights_bytes(in.weights_bytes);
  out->set_relay_bytes(in.relay_bytes);
  out->set_predictor_bytes(in.predictor_bytes);
  out->set_saved_bytes(in.saved_bytes);
  out->set_kv_bytes(in.kv_bytes);
  out->set_reason(Cut(in.reason));
  Put(in.neurons, out->mutable_neurons());
  if (in.heads != model::HeadRange{}) Put(in.heads, out->mutable_heads());
  for (const placement::HelperPlan& helper : in.helpers) Put(helper, out->add_helpers());
  if (in.to_next != placement::LinkChoice{}) Put(in.to_next, out->mutable_to_next());
}

Status Get(const wire::StagePlan& in, placement::StagePlan* out) {
  out->lead = {in.lead()};
  out->layers.has_embed = in.has_embed();
  out->layers.has_head = in.has_head();
  out->weights_bytes = in.weights_bytes();
  out->relay_bytes = in.relay_bytes();
  out->predictor_bytes = in.predictor_bytes();
  out->saved_bytes = in.saved_bytes();
  out->kv_bytes = in.kv_bytes();
  TC_RETURN_IF_ERROR(
      GetInt("stage.layer_begin", in.layer_begin(), 0, model::kMaxLayers, &out->layers.begin));
  TC_RETURN_IF_ERROR(GetInt("stage.layer_end", in.layer_end(), in.layer_begin(), model::kMaxLayers,
                            &out->layers.end));
  TC_RETURN_IF_ERROR(GetText("stage.reason", in.reason(), &out->reason));
  TC_RETURN_IF_ERROR(Get("stage.neurons", in.neurons(), &out->neurons));
  TC_RETURN_IF_ERROR(Get("stage.heads", in.heads(), &out->heads));
  TC_RETURN_IF_ERROR(Get(in.to_next(), &out->to_next));
  TC_RETURN_IF_ERROR(CheckCount("stage.helpers", in.helpers_size(), placement::kMaxHelpers));
  out->helpers.resize(static_cast<size_t>(in.helpers_size()));
  for (int i = 0; i < in.helpers_size(); ++i) {
    TC_RETURN_IF_ERROR(Get(in.helpers(i), &out->helpers[static_cast<size_t>(i)]));
  }
  return OkStatus();
}

}  // namespace

void Put(const placement::WorkerProfile& in, wire::WorkerProfile* out) {
  out->set_id(in.id.value);
  out->set_host(in.host);
  out->set_n_cores(in.n_cores);
  out->set_n_threads(in.n_threads);
  out->set_n_numa_nodes(in.n_numa_nodes);
  out->set_huge_pages(in.huge_pages);
  out->set_memory_bytes(in.memory_bytes);
  Put(in.read_bytes_per_s, out->mutable_read_bytes_per_s());
  Put(in.gather_bytes_per_s, out->mutable_gather_bytes_per_s());
  Put(in.op_overhead_s, out->mutable_op_overhead_s());
  PutRates(in, out);
  for (const placement::GpuInfo& gpu : in.gpus) Put(gpu, out->add_gpus());
  out->set_gpu(in.gpu + 1);
  out->set_nccl_version(in.nccl_version);
  out->set_neuron_rows(static_cast<uint32_t>(in.neuron_rows));
}

Status Get(const wire::WorkerProfile& in, placement::WorkerProfile* out) {
  out->id = {in.id()};
  TC_RETURN_IF_ERROR(GetText("profile.host", in.host(), &out->host));
  TC_RETURN_IF_ERROR(GetInt("profile.n_cores", in.n_cores(), 0, kMaxInt, &out->n_cores));
  TC_RETURN_IF_ERROR(GetInt("profile.n_threads", in.n_threads(), 0, kMaxInt, &out->n_threads));
  TC_RETURN_IF_ERROR(
      GetInt("profile.n_numa_nodes", in.n_numa_nodes(), 0, kMaxInt, &out->n_numa_nodes));
  out->huge_pages = in.huge_pages();
  out->memory_bytes = in.memory_bytes();
  TC_RETURN_IF_ERROR(
      Get("profile.read_bytes_per_s", in.read_bytes_per_s(), &out->read_bytes_per_s));
  TC_RETURN_IF_ERROR(
      Get("profile.gather_bytes_per_s", in.gather_bytes_per_s(), &out->gather_bytes_per_s));
  TC_RETURN_IF_ERROR(Get("profile.op_overhead_s", in.op_overhead_s(), &out->op_overhead_s));
  TC_RETURN_IF_ERROR(GetRates(in, out));
  TC_RETURN_IF_ERROR(GetGpus(in, out));
  int gpu = 0;
  TC_RETURN_IF_ERROR(GetInt("profile.gpu", in.gpu(), 0, static_cast<int>(out->gpus.size()), &gpu));
  out->gpu = gpu - 1;
  TC_RETURN_IF_ERROR(
      GetEnum("profile.neuron_rows", in.neuron_rows(), model::kLastNeuronRows, &out->neuron_rows));
  return GetText("profile.nccl_version", in.nccl_version(), &out->nccl_version);
}

void Put(const placement::Plan& in, wire::Plan* out) {
  out->set_epoch(in.epoch.value);
  out->set_model_fingerprint(in.model_fingerprint);
  out->set_n_layer(in.n_layer);
  for (const placement::StagePlan& stage : in.stages) Put(stage, out->add_stages());
  out->set_link(static_cast<uint32_t>(in.link));
  out->set_wire(static_cast<uint32_t>(in.wire));
  out->mutable_kv()->set_page_tokens(in.kv.page_tokens);
  out->mutable_kv()->set_n_pages(in.kv.n_pages);
  out->mutable_kv()->set_dtype(static_cast<uint32_t>(in.kv.dtype));
  out->set_n_ctx(in.n_ctx);
  out->set_micro_batches(in.micro_batches);
}

Status Get(const wire::Plan& in, placement::Plan* out) {
  constexpr DType kLastType = static_cast<DType>(kNumDTypes - 1);
  out->epoch = {in.epoch()};
  TC_RETURN_IF_ERROR(
      GetText("plan.model_fingerprint", in.model_fingerprint(), &out->model_fingerprint));
  TC_RETURN_IF_ERROR(GetInt("plan.n_layer", in.n_layer(), 0, model::kMaxLayers, &out->n_layer));
  TC_RETURN_IF_ERROR(CheckCount("plan.stages", in.stages_size(), placement::kMaxStages));
  out->stages.resize(in.stages_size());
  for (int i = 0; i < in.stages_size(); ++i) {
    TC_RETURN_IF_ERROR(Get(in.stages(i), &out->stages[i]));
  }
  TC_RETURN_IF_ERROR(GetEnum("plan.link", in.link(), placement::LinkKind::kZmq, &out->link));
  TC_RETURN_IF_ERROR(GetWire("plan.wire", in.wire(), &out->wire));
  TC_RETURN_IF_ERROR(
      GetInt("plan.kv.page_tokens", in.kv().page_tokens(), 0, kMaxInt, &out->kv.page_tokens));
  // Pages times tokens stay far from wrapping.
  TC_RETURN_IF_ERROR(
      GetInt("plan.kv.n_pages", in.kv().n_pages(), 0, int64_t{1} << 40, &out->kv.n_pages));
  TC_RETURN_IF_ERROR(GetEnum("plan.kv.dtype", in.kv().dtype(), kLastType, &out->kv.dtype));
  TC_RETURN_IF_ERROR(GetInt("plan.n_ctx", in.n_ctx(), 0, kMaxPosition, &out->n_ctx));
  return GetInt("plan.micro_batches", in.micro_batches(), 1, placement::kMaxMicroBatches,
                &out->micro_batches);
}

}  // namespace thermocline::proto
