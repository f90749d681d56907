#include "placement/cluster_stages.h"

#include <algorithm>

#include "placement/card_way.h"

namespace thermocline::placement {

ClusterStages::ClusterStages(BatchCosts& costs, int64_t n_sequences, LeastParts least_parts,
                             int64_t n_pages)
    : inputs_(costs.inputs()),
      costs_(costs.Of(n_sequences)),
      least_parts_(least_parts),
      bytes_(costs.bytes()),
      overhead_(costs.overhead()),
      wires_(PairWires::Of(costs.options().request, inputs_.cluster)),
      kv_layer_bytes_(KvPageBytes(inputs_.config, costs.options().request.kv) * uint64_t(n_pages)) {
}

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
    const uint64_t fixed = FixedBytes(layers, worker, d == 0, group.size());
    problem.devices[d].memory_bytes =
        AsOthersCount(worker.memory_bytes - std::min(worker.memory_bytes, fixed), worker, form);
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

uint64_t ClusterStages::AsOthersCount(uint64_t n_bytes, const WorkerProfile& worker,
                                      ModelBytes::Form form) const {
  const double share = bytes_.HeldShare(worker.neuron_rows, form);
  // A cluster file may hold any number.
  if (share >= 1 || n_bytes > UINT64_MAX / 8) return n_bytes;
  return static_cast<uint64_t>(static_cast<double>(n_bytes) / share);
}

uint64_t ClusterStages::FixedBytes(const model::LayerRange& layers, const WorkerProfile& worker,
                                   bool is_lead, size_t n_members) const {
  const auto n_layers = static_cast<size_t>(layers.end - layers.begin);
  if (is_lead) {
    const std::vector<NeuronRange> least(n_layers, costs_.NeuronsOf({0, n_members > 1 ? 1 : 0}));
    return overhead_.MostOfLead(layers, static_cast<int>(n_members) - 1) +
           bytes_.LeadPart(layers, least, worker.neuron_rows).sum() + kv_layer_bytes_ * n_layers;
  }
  const std::vector<NeuronRange> one(n_layers, NeuronRange{0, 1});
  return overhead_.MostOfHelper(static_cast<int>(n_layers)) +
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
