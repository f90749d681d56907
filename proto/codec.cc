// With the other codec_*.cc the only file that sees Protobuf. Each message has a Put
// (struct -> wire) and a Get (wire -> struct, checked); the two stand side by side so that a new
// field is added to both.
#include "proto/codec.h"

#include <string>

#include "base/str.h"
#include "proto/codec_fields.h"
#include "proto/codec_online.h"
#include "proto/codec_probe.h"
#include "proto/codec_trace.h"
#include "proto/codec_values.h"
#include "thermocline.pb.h"

namespace thermocline::proto {
namespace {

// Those of values stand beside the messages' own, which would hide them.
using proto::Get;
using proto::Put;

Status GetNcclId(std::string_view field, const std::string& id, std::string* out) {
  if (!id.empty() && id.size() != kNcclIdBytes) {
    return DataLoss(
        Str("message: ", field, " has neither 0 nor ", kNcclIdBytes, " bytes: bytes=", id.size()));
  }
  *out = id;
  return OkStatus();
}

// ---- Hello and Welcome

void Put(const Hello& in, wire::Message* message) {
  wire::Hello* out = message->mutable_hello();
  out->set_protocol_version(in.protocol_version);
  out->set_build(in.build);
  if (in.wanted_id) out->set_wanted_id(in.wanted_id->value);
  out->set_host(in.host);
  out->set_pid(in.pid);
  Put(in.profile, out->mutable_profile());
  out->set_device(in.device);
  out->set_mpi_address(in.mpi_address);
  out->set_zmq_address(in.zmq_address);
  out->set_offers_host(in.offers_host);
  out->set_nccl_id(in.nccl_id);
  out->set_nccl_version(in.nccl_version);
  out->set_gpu_uuid(in.gpu_uuid);
  out->set_nccl_link_id(in.nccl_link_id);
}

Status Get(const wire::Hello& in, Hello* out) {
  out->protocol_version = in.protocol_version();
  out->offers_host = in.offers_host();
  if (in.has_wanted_id()) out->wanted_id = WorkerId{in.wanted_id()};
  TC_RETURN_IF_ERROR(GetText("hello.build", in.build(), &out->build));
  TC_RETURN_IF_ERROR(GetText("hello.host", in.host(), &out->host));
  TC_RETURN_IF_ERROR(GetInt("hello.pid", in.pid(), 0, kMaxInt64, &out->pid));
  TC_RETURN_IF_ERROR(Get(in.profile(), &out->profile));
  TC_RETURN_IF_ERROR(GetText("hello.device", in.device(), &out->device));
  TC_RETURN_IF_ERROR(GetText("hello.mpi_address", in.mpi_address(), &out->mpi_address));
  TC_RETURN_IF_ERROR(GetNcclId("hello.nccl_id", in.nccl_id(), &out->nccl_id));
  TC_RETURN_IF_ERROR(GetNcclId("hello.nccl_link_id", in.nccl_link_id(), &out->nccl_link_id));
  TC_RETURN_IF_ERROR(GetText("hello.nccl_version", in.nccl_version(), &out->nccl_version));
  TC_RETURN_IF_ERROR(GetText("hello.gpu_uuid", in.gpu_uuid(), &out->gpu_uuid));
  return GetText("hello.zmq_address", in.zmq_address(), &out->zmq_address);
}

void Put(const Welcome& in, wire::Message* message) {
  wire::Welcome* out = message->mutable_welcome();
  out->set_id(in.id.value);
  out->set_epoch(in.epoch.value);
}

Status Get(const wire::Welcome& in, Welcome* out) {
  *out = {.id = {in.id()}, .epoch = {in.epoch()}};
  return OkStatus();
}

// ---- AssignPlan

Status GetFfnModes(std::string_view field, uint32_t bits, model::FfnModes* out) {
  const auto modes = model::FfnModes::FromBits(bits);
  if (!modes.ok()) return DataLoss(Str("message: ", field, ": ", modes.status().message()));
  *out = *modes;
  return OkStatus();
}

void Put(const AssignPlan& in, wire::Message* message) {
  wire::AssignPlan* out = message->mutable_assign_plan();
  Put(in.plan, out->mutable_plan());
  out->set_stage(in.stage);
  out->set_helper(in.helper);
  out->set_model_path(in.model_path);
  out->set_model_fingerprint(in.model_fingerprint);
  out->set_model_bytes(in.model_bytes);
  out->set_header_bytes(in.header_bytes);
  out->set_weights_from(static_cast<uint32_t>(in.weights_from));
  out->set_bulk_endpoint(in.bulk_endpoint);
  out->set_previous_address(in.previous_address);
  out->set_next_address(in.next_address);
  for (const std::string& address : in.helper_addresses) out->add_helper_addresses(address);
  out->set_lead_address(in.lead_address);
  out->set_ffn(in.ffn.bits());
  out->set_sparsity_path(in.sparsity_path);
  out->set_max_step_tokens(in.max_step_tokens);
  out->set_dump_logits_dir(in.dump_logits_dir);
  out->set_n_neuron_tables(in.n_neuron_tables);
  out->set_trace(in.trace);
  out->set_nccl_id(in.nccl_id);
  for (const int helper : in.nccl_helpers) out->add_nccl_helpers(helper);
  out->set_previous_nccl_id(in.previous_nccl_id);
  out->set_next_nccl_id(in.next_nccl_id);
}

Status GetHelperAddresses(const wire::AssignPlan& in, AssignPlan* out) {
  TC_RETURN_IF_ERROR(
      CheckCount("assign.helper_addresses", in.helper_addresses_size(), placement::kMaxHelpers));
  for (const std::string& address : in.helper_addresses()) {
    TC_RETURN_IF_ERROR(
        GetText("assign.helper_addresses", address, &out->helper_addresses.emplace_back()));
  }
  return GetText("assign.lead_address", in.lead_address(), &out->lead_address);
}

// Ascending, each a helper of the stage.
Status GetGroup(const wire::AssignPlan& in, AssignPlan* out) {
  TC_RETURN_IF_ERROR(GetNcclId("assign.nccl_id", in.nccl_id(), &out->nccl_id));
  TC_RETURN_IF_ERROR(
      GetNcclId("assign.previous_nccl_id", in.previous_nccl_id(), &out->previous_nccl_id));
  TC_RETURN_IF_ERROR(GetNcclId("assign.next_nccl_id", in.next_nccl_id(), &out->next_nccl_id));
  TC_RETURN_IF_ERROR(
      CheckCount("assign.nccl_helpers", in.nccl_helpers_size(), placement::kMaxHelpers));
  int next = 0;
  for (const int64_t helper : in.nccl_helpers()) {
    int& own = out->nccl_helpers.emplace_back();
    TC_RETURN_IF_ERROR(
        GetInt("assign.nccl_helpers", helper, next, placement::kMaxHelpers - 1, &own));
    next = own + 1;
  }
  return OkStatus();
}

Status Get(const wire::AssignPlan& in, AssignPlan* out) {
  TC_RETURN_IF_ERROR(Get(in.plan(), &out->plan));
  TC_RETURN_IF_ERROR(
      GetInt("assign.stage", in.stage(), -1, in.plan().stages_size() - 1, &out->stage));
  TC_RETURN_IF_ERROR(
      GetInt("assign.helper", in.helper(), -1, placement::kMaxHelpers - 1, &out->helper));
  TC_RETURN_IF_ERROR(GetHelperAddresses(in, out));
  TC_RETURN_IF_ERROR(GetGroup(in, out));
  out->trace = in.trace();
  out->model_bytes = in.model_bytes();
  out->header_bytes = in.header_bytes();
  TC_RETURN_IF_ERROR(GetText("assign.model_path", in.model_path(), &out->model_path));
  TC_RETURN_IF_ERROR(
      GetText("assign.model_fingerprint", in.model_fingerprint(), &out->model_fingerprint));
  TC_RETURN_IF_ERROR(GetEnum("assign.weights_from", in.weights_from(), WeightsFrom::kCoordinator,
                             &out->weights_from));
  TC_RETURN_IF_ERROR(GetText("assign.bulk_endpoint", in.bulk_endpoint(), &out->bulk_endpoint));
  TC_RETURN_IF_ERROR(
      GetText("assign.previous_address", in.previous_address(), &out->previous_address));
  TC_RETURN_IF_ERROR(GetText("assign.next_address", in.next_address(), &out->next_address));
  TC_RETURN_IF_ERROR(GetFfnModes("assign.ffn", in.ffn(), &out->ffn));
  TC_RETURN_IF_ERROR(GetText("assign.sparsity_path", in.sparsity_path(), &out->sparsity_path));
  TC_RETURN_IF_ERROR(GetInt("assign.max_step_tokens", in.max_step_tokens(), 1, kMaxStepTokens,
                            &out->max_step_tokens));
  TC_RETURN_IF_ERROR(GetInt("assign.n_neuron_tables", in.n_neuron_tables(), 0, model::kMaxLayers,
                            &out->n_neuron_tables));
  return GetText("assign.dump_logits_dir", in.dump_logits_dir(), &out->dump_logits_dir);
}

// ---- LoadProgress and Ready

void Put(const LoadProgress& in, wire::Message* message) {
  wire::LoadProgress* out = message->mutable_load_progress();
  out->set_epoch(in.epoch.value);
  out->set_bytes_done(in.bytes_done);
  out->set_bytes_total(in.bytes_total);
}

Status Get(const wire::LoadProgress& in, LoadProgress* out) {
  out->epoch = {in.epoch()};
  out->bytes_done = in.bytes_done();
  out->bytes_total = in.bytes_total();
  return OkStatus();
}

void Put(const Ready& in, wire::Message* message) {
  wire::Ready* out = message->mutable_ready();
  out->set_epoch(in.epoch.value);
  out->set_owned_bytes(in.owned_bytes);
  out->set_read_bytes(in.read_bytes);
  out->set_peak_rss_bytes(in.peak_rss_bytes);
  out->set_neuron_order(in.neuron_order);
  out->set_kept_bytes(in.kept_bytes);
  out->set_nccl_id(in.nccl_id);
  out->set_nccl_link_id(in.nccl_link_id);
  out->set_note(Cut(in.note));
}

Status Get(const wire::Ready& in, Ready* out) {
  out->epoch = {in.epoch()};
  out->owned_bytes = in.owned_bytes();
  out->read_bytes = in.read_bytes();
  out->peak_rss_bytes = in.peak_rss_bytes();
  out->neuron_order = in.neuron_order();
  out->kept_bytes = in.kept_bytes();
  TC_RETURN_IF_ERROR(GetNcclId("ready.nccl_id", in.nccl_id(), &out->nccl_id));
  TC_RETURN_IF_ERROR(GetNcclId("ready.nccl_link_id", in.nccl_link_id(), &out->nccl_link_id));
  return GetText("ready.note", in.note(), &out->note);
}

// ---- StepBatch

void Put(const model::SamplingParams& in, wire::SamplingParams* out) {
  out->set_temperature(in.temperature);
  out->set_top_p(in.top_p);
  out->set_top_k(in.top_k);
  out->set_min_p(in.min_p);
  out->set_presence_penalty(in.presence_penalty);
  out->set_frequency_penalty(in.frequency_penalty);
  out->set_repetition_penalty(in.repetition_penalty);
  out->set_seed(in.seed);
  out->set_n_logprobs(in.n_logprobs);
  out->set_n_prompt_logprobs(in.n_prompt_logprobs);
  for (const auto& [token, bias] : in.logit_bias) {
    out->add_logit_bias_tokens(token);
    out->add_logit_bias_values(bias);
  }
  out->mutable_banned_ids()->Add(in.banned_ids.begin(), in.banned_ids.end());
}

Status GetLogitBias(const wire::SamplingParams& in, model::SamplingParams* out) {
  TC_RETURN_IF_ERROR(CheckCount("logit_bias", in.logit_bias_tokens_size(), model::kMaxLogitBias));
  if (in.logit_bias_tokens_size() != in.logit_bias_values_size()) {
    return DataLoss(Str("message: logit_bias has other values than tokens:",
                        Kv("tokens", in.logit_bias_tokens_size()),
                        Kv("values", in.logit_bias_values_size())));
  }
  out->logit_bias.resize(in.logit_bias_tokens_size());
  for (int i = 0; i < in.logit_bias_tokens_size(); ++i) {
    auto& [token, bias] = out->logit_bias[i];
    TC_RETURN_IF_ERROR(GetInt("logit_bias.token", in.logit_bias_tokens(i), 0, kMaxInt, &token));
    TC_RETURN_IF_ERROR(GetFinite("logit_bias.value", in.logit_bias_values(i), &bias));
  }
  return OkStatus();
}

Status Get(const wire::SamplingParams& in, model::SamplingParams* out) {
  TC_RETURN_IF_ERROR(GetFinite("temperature", in.temperature(), &out->temperature));
  TC_RETURN_IF_ERROR(GetFinite("top_p", in.top_p(), &out->top_p));
  TC_RETURN_IF_ERROR(GetInt("top_k", in.top_k(), -kMaxInt, kMaxInt, &out->top_k));
  TC_RETURN_IF_ERROR(GetFinite("min_p", in.min_p(), &out->min_p));
  TC_RETURN_IF_ERROR(GetFinite("presence_penalty", in.presence_penalty(), &out->presence_penalty));
  TC_RETURN_IF_ERROR(
      GetFinite("frequency_penalty", in.frequency_penalty(), &out->frequency_penalty));
  TC_RETURN_IF_ERROR(
      GetFinite("repetition_penalty", in.repetition_penalty(), &out->repetition_penalty));
  out->seed = in.seed();
  TC_RETURN_IF_ERROR(
      GetInt("n_logprobs", in.n_logprobs(), -1, model::kMaxLogprobs, &out->n_logprobs));
  TC_RETURN_IF_ERROR(GetInt("n_prompt_logprobs", in.n_prompt_logprobs(), -1, model::kMaxLogprobs,
                            &out->n_prompt_logprobs));
  TC_RETURN_IF_ERROR(GetLogitBias(in, out));
  TC_RETURN_IF_ERROR(GetTokens("banned_ids", in.banned_ids(), kMaxBannedIds, &out->banned_ids));
  // The sampler relies on these ranges.
  const Status valid = out->Validate();
  return valid.ok() ? OkStatus() : DataLoss(Str("message: sampling: ", valid.message()));
}

void Put(const SequenceStart& in, wire::SequenceStart* out) {
  Put(in.params, out->mutable_params());
  out->set_n_prompt(in.n_prompt);
  out->set_min_tokens(in.min_tokens);
  out->mutable_end_ids()->Add(in.end_ids.begin(), in.end_ids.end());
}

Status Get(const wire::SequenceStart& in, SequenceStart* out) {
  TC_RETURN_IF_ERROR(Get(in.params(), &out->params));
  TC_RETURN_IF_ERROR(GetInt("n_prompt", in.n_prompt(), 0, kMaxPosition, &out->n_prompt));
  TC_RETURN_IF_ERROR(GetInt("min_tokens", in.min_tokens(), 0, kMaxPosition, &out->min_tokens));
  return GetTokens("end_ids", in.end_ids(), kMaxEndIds, &out->end_ids);
}

void Put(const StepEntry& in, wire::StepEntry* out) {
  out->set_seq(in.seq.value);
  out->set_first_position(in.first_position);
  out->mutable_tokens()->Add(in.tokens.begin(), in.tokens.end());
  out->set_sample(in.sample);
  if (in.start) Put(*in.start, out->mutable_start());
}

Status Get(const wire::StepEntry& in, StepEntry* out) {
  out->seq = {in.seq()};
  out->sample = in.sample();
  if (in.tokens_size() == 0)
    return DataLoss(Str("message: entry has no tokens:", Kv("seq", in.seq())));
  TC_RETURN_IF_ERROR(
      GetInt("first_position", in.first_position(), 0, kMaxPosition, &out->first_position));
  TC_RETURN_IF_ERROR(GetTokens("tokens", in.tokens(), kMaxStepTokens, &out->tokens));
  return in.has_start() ? Get(in.start(), &out->start.emplace()) : OkStatus();
}

template <typename Repeated>
Status GetStageTimes(const Repeated& in, std::vector<uint32_t>* out) {
  TC_RETURN_IF_ERROR(CheckCount("stage_compute_us", in.size(), placement::kMaxStages));
  out->assign(in.begin(), in.end());
  return OkStatus();
}

void Put(const StepBatch& in, wire::Message* message) {
  wire::StepBatch* out = message->mutable_step_batch();
  out->set_epoch(in.epoch.value);
  out->set_step(in.step.value);
  for (const StepEntry& entry : in.entries) Put(entry, out->add_entries());
  for (const SeqId seq : in.released) out->add_released(seq.value);
  out->mutable_stage_compute_us()->Add(in.stage_compute_us.begin(), in.stage_compute_us.end());
}

Status Get(const wire::StepBatch& in, StepBatch* out) {
  out->epoch = {in.epoch()};
  out->step = {in.step()};
  TC_RETURN_IF_ERROR(CheckCount("entries", in.entries_size(), kMaxStepTokens));
  TC_RETURN_IF_ERROR(CheckCount("released", in.released_size(), kMaxReleased));
  int64_t n_tokens = 0;
  for (const wire::StepEntry& entry : in.entries()) n_tokens += entry.tokens_size();
  TC_RETURN_IF_ERROR(CheckCount("tokens of a step", n_tokens, kMaxStepTokens));
  out->entries.resize(in.entries_size());
  for (int i = 0; i < in.entries_size(); ++i) {
    TC_RETURN_IF_ERROR(Get(in.entries(i), &out->entries[i]));
  }
  for (const uint64_t seq : in.released()) out->released.push_back({seq});
  return GetStageTimes(in.stage_compute_us(), &out->stage_compute_us);
}

// ---- StepResult

void Put(const model::SampledToken& in, wire::SampledToken* out) {
  out->set_token(in.token);
  out->set_logprob(in.logprob);
  for (const model::TokenLogprob& top : in.top) {
    out->add_top_tokens(top.token);
    out->add_top_logprobs(top.logprob);
  }
}

// A log-probability may be minus infinity, never NaN.
Status GetLogprob(float value, float* out) {
  if (std::isnan(value)) return DataLoss("message: logprob is not a number");
  *out = value;
  return OkStatus();
}

Status Get(const wire::SampledToken& in, model::SampledToken* out) {
  TC_RETURN_IF_ERROR(GetInt("sampled.token", in.token(), 0, kMaxInt, &out->token));
  TC_RETURN_IF_ERROR(GetLogprob(in.logprob(), &out->logprob));
  TC_RETURN_IF_ERROR(CheckCount("top logprobs", in.top_tokens_size(), model::kMaxLogprobs));
  if (in.top_tokens_size() != in.top_logprobs_size()) {
    return DataLoss(
        Str("message: top has other logprobs than tokens:", Kv("tokens", in.top_tokens_size()),
            Kv("logprobs", in.top_logprobs_size())));
  }
  out->top.resize(in.top_tokens_size());
  for (int i = 0; i < in.top_tokens_size(); ++i) {
    TC_RETURN_IF_ERROR(GetInt("top.token", in.top_tokens(i), 0, kMaxInt, &out->top[i].token));
    TC_RETURN_IF_ERROR(GetLogprob(in.top_logprobs(i), &out->top[i].logprob));
  }
  return OkStatus();
}

void Put(const StepResultEntry& in, wire::StepResultEntry* out) {
  out->set_seq(in.seq.value);
  if (in.sampled) Put(*in.sampled, out->mutable_sampled());
  for (const model::SampledToken& score : in.prompt_scores) Put(score, out->add_prompt_scores());
}

Status Get(const wire::StepResultEntry& in, StepResultEntry* out) {
  out->seq = {in.seq()};
  if (in.has_sampled()) TC_RETURN_IF_ERROR(Get(in.sampled(), &out->sampled.emplace()));
  TC_RETURN_IF_ERROR(CheckCount("prompt_scores", in.prompt_scores_size(), kMaxStepTokens));
  out->prompt_scores.resize(in.prompt_scores_size());
  for (int i = 0; i < in.prompt_scores_size(); ++i) {
    TC_RETURN_IF_ERROR(Get(in.prompt_scores(i), &out->prompt_scores[i]));
  }
  return OkStatus();
}

void Put(const StepResult& in, wire::Message* message) {
  wire::StepResult* out = message->mutable_step_result();
  out->set_epoch(in.epoch.value);
  out->set_step(in.step.value);
  for (const StepResultEntry& entry : in.entries) Put(entry, out->add_entries());
  out->mutable_stage_compute_us()->Add(in.stage_compute_us.begin(), in.stage_compute_us.end());
}

Status Get(const wire::StepResult& in, StepResult* out) {
  out->epoch = {in.epoch()};
  out->step = {in.step()};
  TC_RETURN_IF_ERROR(CheckCount("result entries", in.entries_size(), kMaxStepTokens));
  out->entries.resize(in.entries_size());
  for (int i = 0; i < in.entries_size(); ++i) {
    TC_RETURN_IF_ERROR(Get(in.entries(i), &out->entries[i]));
  }
  return GetStageTimes(in.stage_compute_us(), &out->stage_compute_us);
}

// ---- Part

void Put(const Part& in, wire::Message* message) {
  wire::Part* out = message->mutable_part();
  out->set_epoch(in.epoch.value);
  out->set_step(in.step.value);
  out->set_layer(in.layer);
  out->set_n_rows(in.n_rows);
  out->set_of_heads(in.of_heads);
  for (const PartSequence& sequence : in.sequences) {
    wire::PartSequence* own = out->add_sequences();
    own->set_first_position(sequence.first_position);
    own->set_n_tokens(sequence.n_tokens);
    own->mutable_page_ids()->Add(sequence.page_ids.begin(), sequence.page_ids.end());
  }
}

// Whether they are the rows and pages of anything, their reader knows.
Status Get(const wire::PartSequence& in, PartSequence* out) {
  TC_RETURN_IF_ERROR(
      GetInt("part.first_position", in.first_position(), 0, kMaxPosition, &out->first_position));
  TC_RETURN_IF_ERROR(GetInt("part.n_tokens", in.n_tokens(), 1, kMaxStepTokens, &out->n_tokens));
  TC_RETURN_IF_ERROR(
      CheckCount("part.page_ids", in.page_ids_size(), static_cast<int>(placement::kMaxToldPages)));
  out->page_ids.assign(in.page_ids().begin(), in.page_ids().end());
  return OkStatus();
}

Status Get(const wire::Part& in, Part* out) {
  out->epoch = {in.epoch()};
  out->step = {in.step()};
  TC_RETURN_IF_ERROR(GetInt("part.layer", in.layer(), 0, model::kMaxLayers, &out->layer));
  out->of_heads = in.of_heads();
  TC_RETURN_IF_ERROR(CheckCount("part.sequences", in.sequences_size(), kMaxStepTokens));
  out->sequences.resize(static_cast<size_t>(in.sequences_size()));
  for (int i = 0; i < in.sequences_size(); ++i) {
    TC_RETURN_IF_ERROR(Get(in.sequences(i), &out->sequences[static_cast<size_t>(i)]));
  }
  return GetInt("part.n_rows", in.n_rows(), 1, kMaxStepTokens, &out->n_rows);
}

// ---- Heartbeat, Failure, Shutdown

void Put(const Heartbeat& in, wire::Message* message) {
  wire::Heartbeat* out = message->mutable_heartbeat();
  out->set_epoch(in.epoch.value);
  out->set_steps_done(in.steps_done);
  out->set_peak_rss_bytes(in.peak_rss_bytes);
  out->set_compute_us(in.compute_us);
  out->set_wait_us(in.wait_us);
  out->set_link_bytes_sent(in.link_bytes_sent);
  out->set_stale_frames(in.stale_frames);
  out->set_kv_pages_used(in.kv_pages_used);
}

Status Get(const wire::Heartbeat& in, Heartbeat* out) {
  out->epoch = {in.epoch()};
  out->steps_done = in.steps_done();
  out->peak_rss_bytes = in.peak_rss_bytes();
  out->compute_us = in.compute_us();
  out->wait_us = in.wait_us();
  out->link_bytes_sent = in.link_bytes_sent();
  out->stale_frames = in.stale_frames();
  return GetInt("heartbeat.kv_pages_used", in.kv_pages_used(), 0, kMaxInt64, &out->kv_pages_used);
}

void Put(const Failure& in, wire::Message* message) {
  wire::Failure* out = message->mutable_failure();
  out->set_code(static_cast<uint32_t>(in.status.code()));
  out->set_message(Cut(in.status.message()));
}

Status Get(const wire::Failure& in, Failure* out) {
  StatusCode code = StatusCode::kOk;
  std::string message;
  TC_RETURN_IF_ERROR(GetEnum("failure.code", in.code(), StatusCode::kInternal, &code));
  TC_RETURN_IF_ERROR(GetText("failure.message", in.message(), &message));
  if (code == StatusCode::kOk) return DataLoss("message: failure.code is ok");
  out->status = Status(code, std::move(message));
  return OkStatus();
}

void Put(const Shutdown& in, wire::Message* message) {
  message->mutable_shutdown()->set_reason(Cut(in.reason));
}

Status Get(const wire::Shutdown& in, Shutdown* out) {
  return GetText("shutdown.reason", in.reason(), &out->reason);
}

void Put(const Leaving& in, wire::Message* message) { Put(in, message->mutable_leaving()); }
void Put(const Stay& in, wire::Message* message) { Put(in, message->mutable_stay()); }
void Put(const LinkLost& in, wire::Message* message) { Put(in, message->mutable_link_lost()); }
void Put(const NeuronTable& in, wire::Message* message) {
  Put(in, message->mutable_neuron_table());
}
void Put(const FiringCounts& in, wire::Message* message) {
  Put(in, message->mutable_firing_counts());
}
void Put(const ProbeLink& in, wire::Message* message) { Put(in, message->mutable_probe_link()); }
void Put(const LinkReport& in, wire::Message* message) { Put(in, message->mutable_link_report()); }
void Put(const ClockProbe& in, wire::Message* message) { Put(in, message->mutable_clock_probe()); }
void Put(const ClockEcho& in, wire::Message* message) { Put(in, message->mutable_clock_echo()); }
void Put(const TraceSpans& in, wire::Message* message) { Put(in, message->mutable_trace_spans()); }

template <typename Struct, typename Wire>
Result<Message> GetKind(const Wire& in) {
  Struct out;
  TC_RETURN_IF_ERROR(Get(in, &out));
  return Message(std::move(out));
}

}  // namespace

void Encode(const Message& message, std::vector<std::byte>* out) {
  wire::Message wire;
  std::visit([&](const auto& kind) { Put(kind, &wire); }, message);
  out->resize(wire.ByteSizeLong());
  CHECK(wire.SerializeToArray(out->data(), static_cast<int>(out->size())));
}

Result<Message> Decode(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxMessageBytes) {
    return DataLoss(Str("message is too large: bytes=", bytes.size(), " limit=", kMaxMessageBytes));
  }
  wire::Message wire;
  if (!wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return DataLoss(Str("message is not well formed: bytes=", bytes.size()));
  }
  switch (wire.kind_case()) {
    case wire::Message::kHello:
      return GetKind<Hello>(wire.hello());
    case wire::Message::kWelcome:
      return GetKind<Welcome>(wire.welcome());
    case wire::Message::kAssignPlan:
      return GetKind<AssignPlan>(wire.assign_plan());
    case wire::Message::kLoadProgress:
      return GetKind<LoadProgress>(wire.load_progress());
    case wire::Message::kReady:
      return GetKind<Ready>(wire.ready());
    case wire::Message::kStepBatch:
      return GetKind<StepBatch>(wire.step_batch());
    case wire::Message::kStepResult:
      return GetKind<StepResult>(wire.step_result());
    case wire::Message::kPart:
      return GetKind<Part>(wire.part());
    case wire::Message::kHeartbeat:
      return GetKind<Heartbeat>(wire.heartbeat());
    case wire::Message::kFailure:
      return GetKind<Failure>(wire.failure());
    case wire::Message::kShutdown:
      return GetKind<Shutdown>(wire.shutdown());
    case wire::Message::kLeaving:
      return GetKind<Leaving>(wire.leaving());
    case wire::Message::kStay:
      return GetKind<Stay>(wire.stay());
    case wire::Message::kLinkLost:
      return GetKind<LinkLost>(wire.link_lost());
    case wire::Message::kNeuronTable:
      return GetKind<NeuronTable>(wire.neuron_table());
    case wire::Message::kFiringCounts:
      return GetKind<FiringCounts>(wire.firing_counts());
    case wire::Message::kProbeLink:
      return GetKind<ProbeLink>(wire.probe_link());
    case wire::Message::kLinkReport:
      return GetKind<LinkReport>(wire.link_report());
    case wire::Message::kClockProbe:
      return GetKind<ClockProbe>(wire.clock_probe());
    case wire::Message::kClockEcho:
      return GetKind<ClockEcho>(wire.clock_echo());
    case wire::Message::kTraceSpans:
      return GetKind<TraceSpans>(wire.trace_spans());
    case wire::Message::KIND_NOT_SET:
      break;
  }
  return DataLoss("message is of no known kind");
}

}  // namespace thermocline::proto
