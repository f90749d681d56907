#include "proto/codec_online.h"

#include <vector>

#include "base/str.h"
#include "proto/codec_fields.h"
#include "thermocline.pb.h"

namespace thermocline::proto {

void Put(const Leaving& in, wire::Leaving* out) { out->set_reason(Cut(in.reason)); }

Status Get(const wire::Leaving& in, Leaving* out) {
  return GetText("leaving.reason", in.reason(), &out->reason);
}

void Put(const Stay& in, wire::Stay* out) { out->set_reason(Cut(in.reason)); }

Status Get(const wire::Stay& in, Stay* out) {
  return GetText("stay.reason", in.reason(), &out->reason);
}

void Put(const LinkLost& in, wire::LinkLost* out) {
  out->set_epoch(in.epoch.value);
  out->set_peer(in.peer.value);
  out->set_reason(Cut(in.reason));
}

Status Get(const wire::LinkLost& in, LinkLost* out) {
  out->epoch = {in.epoch()};
  out->peer = {in.peer()};
  return GetText("link_lost.reason", in.reason(), &out->reason);
}

void Put(const NeuronTable& in, wire::NeuronTable* out) {
  out->set_epoch(in.epoch.value);
  out->set_layer(in.layer);
  for (const int32_t neuron : in.neurons) out->add_neurons(static_cast<uint32_t>(neuron));
}

Status Get(const wire::NeuronTable& in, NeuronTable* out) {
  out->epoch = {in.epoch()};
  TC_RETURN_IF_ERROR(GetInt("table.layer", in.layer(), 0, model::kMaxLayers - 1, &out->layer));
  const int n = in.neurons_size();
  TC_RETURN_IF_ERROR(CheckCount("table.neurons", n, model::kMaxFf));
  std::vector<bool> is_placed(static_cast<size_t>(n));
  for (const uint32_t neuron : in.neurons()) {
    int32_t place = 0;
    TC_RETURN_IF_ERROR(GetInt("table.neuron", int64_t{neuron}, 0, n - 1, &place));
    if (is_placed[neuron]) return DataLoss(Str("message: neuron stands twice: ", neuron));
    is_placed[neuron] = true;
    out->neurons.push_back(place);
  }
  return OkStatus();
}

void Put(const FiringCounts& in, wire::FiringCounts* out) {
  out->set_epoch(in.epoch.value);
  out->set_layer(in.layer);
  out->set_n_tokens(in.n_tokens);
  int32_t next = 0;
  for (const int32_t neuron : in.neurons) {
    out->add_neuron_gaps(static_cast<uint32_t>(neuron - next));
    next = neuron + 1;
  }
  out->mutable_counts()->Add(in.counts.begin(), in.counts.end());
}

namespace {

Status GetNeurons(const wire::FiringCounts& in, std::vector<int32_t>* out) {
  if (in.neuron_gaps_size() == 0) return OkStatus();
  if (in.neuron_gaps_size() != in.counts_size()) {
    return DataLoss(Str("message: firing has other neurons than counts:",
                        Kv("neurons", in.neuron_gaps_size()), Kv("counts", in.counts_size())));
  }
  int64_t next = 0;
  for (const uint32_t gap : in.neuron_gaps()) {
    TC_RETURN_IF_ERROR(
        GetInt("firing.neuron", next + gap, 0, model::kMaxFf - 1, &out->emplace_back()));
    next += int64_t{gap} + 1;
  }
  return OkStatus();
}

}  // namespace

Status Get(const wire::FiringCounts& in, FiringCounts* out) {
  out->epoch = {in.epoch()};
  out->n_tokens = in.n_tokens();
  TC_RETURN_IF_ERROR(GetInt("firing.layer", in.layer(), 0, model::kMaxLayers - 1, &out->layer));
  TC_RETURN_IF_ERROR(CheckCount("firing.counts", in.counts_size(), model::kMaxFf));
  TC_RETURN_IF_ERROR(GetNeurons(in, &out->neurons));
  for (const uint32_t count : in.counts()) {
    if (count <= in.n_tokens()) continue;
    return DataLoss(Str("message: neuron fired for more tokens than there were:",
                        Kv("count", count), Kv("tokens", in.n_tokens())));
  }
  out->counts.assign(in.counts().begin(), in.counts().end());
  return OkStatus();
}

}  // namespace thermocline::proto
