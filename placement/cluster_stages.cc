#include "placement/cluster_stages.h"

#include <algorithm>
#include <cmath>

#include "placement/card_way.h"

namespace thermocline::placement {
namespace {

enum class Rounding : uint8_t { kDown, kUp };

// Bytes that take `n_bytes` where rows take `share` of them, as neurons of others count, who hold
// them as they are. The solver knows one size for all, so a worker with smaller rows has so much
// more memory to it: where layers differ by the largest of their shares, so that what it is given
// fits, or in bounds by the least, so that whatever fits is given.
uint64_t AsOthersCount(uint64_t n_bytes, double share, Rounding rounding) {
  // A cluster file may hold any number.
  if (share >= 1 || n_bytes > UINT64_MAX / 8) return n_bytes;
  const double counted = static_cast<double>(n_bytes) / share;
  return static_cast<uint64_t>(rounding == Rounding::kUp ? std::ceil(counted) : counted);
}

}  // namespace

ClusterStages::ClusterStages(BatchCosts& costs, int64_t n_sequences, LeastParts least_parts,
                             int64_t n_pages)
    : inputs_(costs.inputs()),
      costs_(costs.Of(n_sequences)),
      least_parts_(least_parts),
      bytes_(costs.bytes()),
      overhead_(costs.overhead()),
      wires_(PairWires::Of(costs.options().request, inputs_.cluster)),
      kv_layer_bytes_(KvPageBytes(inputs_.config, costs.options().request.kv) * uint64_t(n_pages)) {}

int ClusterStages::DeviceType(int device) const {
  for (int other = 0; other < device; ++other) {
    if (IsAlike(other, device)) return other;
  }
  return device;
}

std::optional<SplitProblem> ClusterStages::Problem(int begin, int end,
                                                   const std::vector<int>& group) const {
  const model::LayerRange layers = LayersOf(begin, end);
  // Alone it cannot hold its neurons either, so there will be no split. A helper without room takes
  // no part.
  const bool leads_others = group.size() > 1;
  const WorkerProfile& lead = WorkerAt(group[0]);
  if (leads_others && lead.memory_bytes < FixedBytes(layers, lead, true, group.size())) {
    return std::nullopt;
  }
  SplitProblem problem = Times(begin, end, group);
  const auto form = leads_others ? ModelBytes::Form::kShared : ModelBytes::Form::kAlone;
  for (size_t d = 0; d < group.size(); ++d) {
    const WorkerProfile& worker = WorkerAt(group[d]);
    problem.devices[d].memory_bytes =
        AsOthersCount(BytesLeft(layers, worker, d == 0, group.size()),
                      bytes_.HeldShares(worker.neuron_rows, layers, form).most, Rounding::kDown);
  }
  return problem;
}

SplitProblem ClusterStages::Times(int begin, int end, const std::vector<int>& group) const {
  const model::LayerRange layers = LayersOf(begin, end);
  SplitProblem problem = costs_.ProblemOf(GroupOf(group), layers);
  if (least_parts_ == LeastParts::kIgnored) {
    for (SplitLayer& layer : problem.layers) layer.least_active.clear();
  }
  const WorkerId lead = WorkerAt(group.front()).id;
  if (layers.has_embed) problem.layers.front().fixed_s += costs_.EmbedSeconds(lead);
  if (layers.has_head) problem.layers.back().fixed_s += costs_.HeadSeconds(lead);
  return problem;
}

uint64_t ClusterStages::MostMemory(int device) const {
  const WorkerProfile& worker = WorkerAt(device);
  uint64_t fixed = FixedOfLead(worker).stage;
  for (int layer = 0; layer < n_layer() && n_devices() > 1; ++layer) {
    const model::LayerRange one = LayersOf(layer, layer + 1);
    // What is fixed of a helper's counts one neuron.
    const uint64_t neuron_bytes = bytes_.Neurons(layer, {0, 1}, worker.neuron_rows).sum();
    const uint64_t helper = FixedBytes(one, worker, false, 2);
    fixed = std::min(fixed, helper - std::min(helper, neuron_bytes));
  }
  const uint64_t left = worker.memory_bytes - std::min(worker.memory_bytes, fixed);
  return AsOthersCount(left, LeastShare(worker), Rounding::kUp);
}

uint64_t ClusterStages::LeadBytes(int layer, int device) const {
  const WorkerProfile& worker = WorkerAt(device);
  const auto of_layers = [&](int end) {
    return FixedBytes({layer, end, false, false}, worker, true, 1);
  };
  uint64_t n_bytes = of_layers(layer + 1) - of_layers(layer);
  const LeadFixed fixed = FixedOfLead(worker);
  if (layer == 0) n_bytes += fixed.embed;
  if (layer == n_layer() - 1) n_bytes += fixed.head;
  return AsOthersCount(n_bytes, LeastShare(worker), Rounding::kDown);
}

uint64_t ClusterStages::HelperBytes(int device) const {
  const WorkerProfile& lead = WorkerAt(device);
  return AsOthersCount(overhead_.LeastPerHelper(HolderOf(lead)), LeastShare(lead), Rounding::kDown);
}

// Neither end takes more than it adds to any stage, with or without the other, and what every stage
// takes is no more than what is left of the least.
ClusterStages::LeadFixed ClusterStages::FixedOfLead(const WorkerProfile& lead) const {
  const auto less = [](uint64_t n_bytes, uint64_t by) { return n_bytes - std::min(n_bytes, by); };
  const auto with = [&](bool has_embed, bool has_head) {
    const model::LayerRange none = {0, 0, has_embed, has_head};
    const uint64_t helped = FixedBytes(none, lead, true, 2);
    return std::min(FixedBytes(none, lead, true, 1),
                    less(helped, overhead_.LeastPerHelper(HolderOf(lead))));
  };
  const uint64_t none = with(false, false), both = with(true, true);
  const uint64_t first = with(true, false), last = with(false, true);
  LeadFixed fixed;
  fixed.embed = std::min(less(first, none), less(both, last));
  fixed.head = std::min(less(last, none), less(less(both, none), fixed.embed));
  fixed.stage = std::min({none, less(first, fixed.embed), less(last, fixed.head),
                          less(both, fixed.embed + fixed.head)});
  return fixed;
}

double ClusterStages::LeastShare(const WorkerProfile& worker) const {
  const model::LayerRange all = LayersOf(0, n_layer());
  const auto of = [&](ModelBytes::Form form) {
    return bytes_.HeldShares(worker.neuron_rows, all, form).least;
  };
  const double alone = of(ModelBytes::Form::kAlone);
  return n_devices() > 1 ? std::min(alone, of(ModelBytes::Form::kShared)) : alone;
}

uint64_t ClusterStages::BytesLeft(const model::LayerRange& layers, const WorkerProfile& worker,
                                  bool is_lead, size_t n_members) const {
  const uint64_t fixed = FixedBytes(layers, worker, is_lead, n_members);
  return worker.memory_bytes - std::min(worker.memory_bytes, fixed);
}

uint64_t ClusterStages::FixedBytes(const model::LayerRange& layers, const WorkerProfile& worker,
                                   bool is_lead, size_t n_members) const {
  const auto n_layers = static_cast<size_t>(layers.end - layers.begin);
  if (is_lead) {
    const std::vector<NeuronRange> least(n_layers, costs_.NeuronsOf({0, n_members > 1 ? 1 : 0}));
    return overhead_.MostOfLead(layers, static_cast<int>(n_members) - 1, HolderOf(worker)) +
           bytes_.LeadPart(layers, least, worker.neuron_rows).sum() + kv_layer_bytes_ * n_layers;
  }
  const std::vector<NeuronRange> one(n_layers, NeuronRange{0, 1});
  return overhead_.MostOfHelper(static_cast<int>(n_layers), HolderOf(worker)) +
         bytes_.HelperPart(layers, one, worker.neuron_rows).sum();
}

Group ClusterStages::GroupOf(const std::vector<int>& devices) const {
  Group group;
  for (const int device : devices) group.push_back(WorkerAt(device).id);
  return group;
}

bool ClusterStages::IsAlike(int a, int b) const {
  if (WithoutNames(WorkerAt(a)) != WithoutNames(WorkerAt(b))) return false;
  const auto same_link = [&](WorkerId from_a, WorkerId to_a, WorkerId from_b, WorkerId to_b) {
    const LinkProfile *x = inputs_.cluster.FindLink(from_a, to_a),
                      *y = inputs_.cluster.FindLink(from_b, to_b);
    return x->transport == y->transport && x->latency_s == y->latency_s &&
           x->bytes_per_s == y->bytes_per_s && x->message_s == y->message_s &&
           wires_(from_a, to_a) == wires_(from_b, to_b);
  };
  const auto same_card_way = [&](const WorkerProfile& other) {
    return FindCardWay(WorkerAt(a), other) == FindCardWay(WorkerAt(b), other) &&
           FindCardWay(other, WorkerAt(a)) == FindCardWay(other, WorkerAt(b));
  };
  const WorkerId id_a = WorkerAt(a).id, id_b = WorkerAt(b).id;
  return std::all_of(inputs_.cluster.workers.begin(), inputs_.cluster.workers.end(),
                     [&](const WorkerProfile& other) {
                       if (other.id == id_a || other.id == id_b) return true;
                       return same_card_way(other) && same_link(id_a, other.id, id_b, other.id) &&
                              same_link(other.id, id_a, other.id, id_b);
                     });
}

}  // namespace thermocline::placement
