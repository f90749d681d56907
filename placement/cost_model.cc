#include "placement/cost_model.h"

#include <algorithm>
#include <optional>

#include "base/check.h"
#include "model/ffn_policy.h"
#include "model/graph.h"
#include "placement/card_way.h"

namespace thermocline::placement {
namespace {

using model::FfnMode;

// A layer is cut into at most this many blocks, multiples of what is summed together
// (model::kSumChunk): a plan is no better for finer ones, and the solver's tables stay small.
constexpr int64_t kMaxBlocks = 512;

// Choosing a token looks at every logit a few times; measured at 8 ns a logit with temperature 1.
constexpr double kSampleSecondsPerLogit = 8e-9;

// What decides whether a neuron's rows are read in this mode.
bool SkipsNeurons(const model::ModelConfig& config, FfnMode mode) {
  return mode != FfnMode::kDense || config.relu_family();
}

// Sums over consecutive blocks of a layer, of which `heat` tells the probabilities. `ends`: the
// first neuron after each block.
std::vector<NeuronShare> SharesOf(const NeuronHeat& heat, const std::vector<int64_t>& ends,
                                  int64_t n_rows) {
  const std::vector<double> needed = heat.Union(n_rows);
  std::vector<NeuronShare> blocks;
  size_t i = 0;
  for (const int64_t end : ends) {
    NeuronShare& block = blocks.emplace_back();
    for (; i < static_cast<size_t>(end); ++i) {
      const double uses = heat.fires()[i] * static_cast<double>(n_rows);
      block += {1, needed[i], needed[i], uses};
    }
  }
  return blocks;
}

NeuronShare SumOf(const std::vector<NeuronShare>& shares) {
  NeuronShare sum;
  for (const NeuronShare& share : shares) sum += share;
  return sum;
}

// Of links, as WorkerSpeed does with ops.
double Limited(double seconds) { return std::min(WorkerSpeed::kLongestOpS, seconds); }

double DensityOf(const NeuronShare& share) { return share.n > 0 ? share.active / share.n : 1; }

}  // namespace

CostModel::CostModel(const CostInputs& inputs) : inputs_(inputs) {
  const model::ModelConfig& config = inputs_.config;
  const auto n_ff = static_cast<int64_t>(config.n_ff);
  CHECK(inputs_.heats.size() == static_cast<size_t>(config.n_layer));
  const int64_t least = (n_ff + kMaxBlocks - 1) / kMaxBlocks;
  block_neurons_ = (least + model::kSumChunk - 1) / model::kSumChunk * model::kSumChunk;
  n_blocks_ = static_cast<int>((n_ff + block_neurons_ - 1) / block_neurons_);
  for (const WorkerProfile& worker : inputs_.cluster.workers) {
    speeds_.emplace_back(worker, inputs_.step.n_rows());
  }
  embed_ = LoadsOf(model::BuildEmbedGraph(config), config, inputs_.weights, inputs_.step);
  StepShape head = inputs_.step;  // only the last token of each sequence is asked for
  head.n_tokens = 1;
  head_ = LoadsOf(model::BuildHeadGraph(config, inputs_.weights), config, inputs_.weights, head);

  CHECK(!speeds_.empty());
  for (int layer = 0; layer < config.n_layer; ++layer) {
    alone_.layers.emplace_back();
    std::optional<double> fastest;
    for (const FfnMode mode : model::kFfnModes) {
      if (!inputs_.ffn.Has(mode)) continue;
      LayerLoads loads = LoadsOfLayer(layer, mode, false);
      const double seconds = SecondsOf(loads.ffn, speeds_.front(), loads.all, DensityOf(loads.all));
      if (fastest && seconds >= *fastest) continue;
      fastest = seconds;
      alone_.layers.back() = std::move(loads);
    }
    shared_.layers.push_back(LoadsOfLayer(layer, alone_.layers.back().mode, true));
  }
  Tabulate(&alone_);
  Tabulate(&shared_);
  TabulateBytes();
}

void CostModel::Tabulate(Form* form) const {
  for (const WorkerSpeed& speed : speeds_) {
    auto& of_worker = form->block_seconds.emplace_back();
    auto& parts = form->part_seconds.emplace_back();
    for (const LayerLoads& layer : form->layers) {
      parts.push_back(SecondsOf(layer.ffn, speed, {}, 1));
      of_worker.push_back(BlockSeconds(layer, layer.blocks, speed));
    }
  }
}

// A lead alone that never skips neurons has them as the file has; re-laid rows are for the others.
void CostModel::TabulateBytes() {
  const ModelBytes bytes = ModelBytes::Of(inputs_.config, inputs_.weights, inputs_.ffn);
  for (int layer = 0; layer < inputs_.config.n_layer; ++layer) {
    std::vector<uint64_t>& alone = alone_.block_bytes.emplace_back();
    std::vector<uint64_t>& shared = shared_.block_bytes.emplace_back();
    for (int b = 0; b < n_blocks_; ++b) {
      const PartBytes block = bytes.Neurons(layer, NeuronsOf({b, b + 1}));
      shared.push_back(block.sum());
      alone.push_back(inputs_.ffn.needs_neuron_rows() ? block.sum() : block.sum() - block.relay);
    }
  }
}

double CostModel::LayerLoads::DensityIn(const NeuronShare& block) const {
  return DensityOf(in_heat_order ? block : all);
}

CostModel::LayerLoads CostModel::LoadsOfLayer(int layer, FfnMode mode, bool is_shared) const {
  const model::ModelConfig& config = inputs_.config;
  model::LayerSparsity sparsity;
  if (inputs_.sparsity != nullptr) sparsity = inputs_.sparsity->layers[static_cast<size_t>(layer)];
  const FfnMode own = model::LayerFfnMode(config, sparsity, mode);
  const bool by_neuron = is_shared || inputs_.ffn.needs_neuron_rows();
  const model::Graph graph =
      model::BuildLayerGraph(config, inputs_.weights, layer, {own, by_neuron, sparsity});
  std::vector<OpLoad> loads = LoadsOf(graph, config, inputs_.weights, inputs_.step);
  const auto ffn = loads.begin() + static_cast<std::ptrdiff_t>(graph.ffn_begin);

  std::vector<int64_t> ends;
  for (int b = 0; b < n_blocks_; ++b) ends.push_back(NeuronsOf({b, b + 1}).end);
  LayerLoads result{.mode = own,
                    .before_ffn = {loads.begin(), ffn},
                    .ffn = {ffn, loads.end()},
                    .blocks = SharesOf(HeatIn(layer, own), ends, inputs_.step.n_rows())};
  result.all = SumOf(result.blocks);
  result.in_heat_order = is_shared;
  return result;
}

NeuronHeat CostModel::HeatIn(int layer, FfnMode mode) const {
  const NeuronHeat& measured = inputs_.heats[static_cast<size_t>(layer)];
  return SkipsNeurons(inputs_.config, mode) ? measured : NeuronHeat::Uniform(measured.n_ff(), 1);
}

double CostModel::SecondsOf(const std::vector<OpLoad>& ops, const WorkerSpeed& speed,
                            const NeuronShare& share, double density) const {
  double seconds = 0;
  for (const OpLoad& op : ops) seconds += speed.OpSeconds(op, share, density);
  return std::min(seconds, kMaxSplitSeconds);
}

size_t CostModel::IndexOf(WorkerId worker) const {
  const auto& workers = inputs_.cluster.workers;
  const auto at = std::find_if(workers.begin(), workers.end(),
                               [&](const WorkerProfile& other) { return other.id == worker; });
  CHECK(at != workers.end());
  return static_cast<size_t>(at - workers.begin());
}

double CostModel::LayerSeconds(WorkerId worker, int layer) const {
  const LayerLoads& loads = alone_.layers[static_cast<size_t>(layer)];
  const WorkerSpeed& speed = SpeedOf(worker);
  return SecondsOf(loads.before_ffn, speed, {}, 1) +
         SecondsOf(loads.ffn, speed, loads.all, DensityOf(loads.all));
}

double CostModel::EmbedSeconds(WorkerId worker) const {
  return SecondsOf(embed_, SpeedOf(worker), {}, 1);
}

double CostModel::HeadSeconds(WorkerId worker) const {
  const double sample = kSampleSecondsPerLogit * inputs_.config.n_vocab;
  return SecondsOf(head_, SpeedOf(worker), {}, 1) +
         sample * static_cast<double>(inputs_.step.n_sequences);
}

CostModel::Way CostModel::WayByHosts(WorkerId from, WorkerId to) const {
  const LinkProfile* const link = inputs_.cluster.FindLink(from, to);
  CHECK(link != nullptr);
  return {Limited(link->message_s.value), Limited(link->latency_s.value), link->bytes_per_s.value,
          inputs_.wires(from, to)};
}

// A message is an op of the sender's queue; on cards nothing is rounded on its way.
std::optional<CostModel::Way> CostModel::WayByCards(WorkerId from, WorkerId to) const {
  const auto& workers = inputs_.cluster.workers;
  const auto way = FindCardWay(workers[IndexOf(from)], workers[IndexOf(to)]);
  if (!way) return std::nullopt;
  return Way{Limited(SpeedOf(from).op_overhead_s()), Limited(way->latency_s), way->bytes_per_s,
             DType::kF32};
}

CostModel::Way CostModel::WayInGroup(WorkerId from, WorkerId to) const {
  const auto by_cards = WayByCards(from, to);
  return by_cards ? *by_cards : WayByHosts(from, to);
}

double CostModel::TransferSeconds(const Way& way, Payload payload) const {
  const auto bytes_of = payload == Payload::kSums ? SumsBytes : ActivationBytes;
  const uint64_t n_bytes = bytes_of(way.wire, inputs_.step.n_rows(), inputs_.config.n_embd);
  return Limited(static_cast<double>(n_bytes) / way.bytes_per_s);
}

double CostModel::MessageSeconds(const Way& way) const {
  return way.message_s + way.latency_s + TransferSeconds(way, Payload::kActivations);
}

// The two ends measure both ways and take the faster one, unless values are rounded on the link.
double CostModel::HopSeconds(WorkerId from, WorkerId to) const {
  const Way by_hosts = WayByHosts(from, to);
  const double seconds = MessageSeconds(by_hosts);
  const auto by_cards = WayByCards(from, to);
  if (!by_cards || by_hosts.wire != DType::kF32) return seconds;
  return std::min(seconds, MessageSeconds(*by_cards));
}

// By block, so that they add up; an op's larger bound may change from block to block, which makes
// the sum at most a little larger than the time of the whole.
std::vector<double> CostModel::BlockSeconds(const LayerLoads& layer,
                                            const std::vector<NeuronShare>& blocks,
                                            const WorkerSpeed& speed) const {
  // The norm, the first half of a predictor, and the calls.
  const double fixed = SecondsOf(layer.ffn, speed, {}, 1);
  std::vector<double> seconds = {0};
  seconds.reserve(blocks.size() + 1);
  for (const NeuronShare& block : blocks) {
    const double whole = SecondsOf(layer.ffn, speed, block, layer.DensityIn(block));
    seconds.push_back(seconds.back() + std::max(0.0, whole - fixed));
  }
  return seconds;
}

SplitProblem CostModel::ProblemOf(const Group& group, const model::LayerRange& layers) const {
  SplitProblem problem{.devices = DevicesOf(group, layers), .layers = {}};
  const Form& form = FormOf(group);
  for (int i = layers.begin; i < layers.end; ++i) {
    const auto at = static_cast<size_t>(i);
    SplitLayer& layer = problem.layers.emplace_back();
    layer.fixed_s = SecondsOf(form.layers[at].before_ffn, SpeedOf(group.front()), {}, 1);
    layer.block_bytes = form.block_bytes[at];
    for (const WorkerId worker : group) {
      layer.seconds.push_back(form.block_seconds[IndexOf(worker)][at]);
    }
    AddLeastParts(form.layers[at].blocks, problem.devices, &layer);
  }
  return problem;
}

// C_ld = (send_busy_d + merge_d) / (the lead's seconds per expected active neuron of layer l).
void CostModel::AddLeastParts(const std::vector<NeuronShare>& blocks,
                              const std::vector<SplitDevice>& devices, SplitLayer* layer) const {
  layer->active = {0};
  for (const NeuronShare& block : blocks) {
    layer->active.push_back(layer->active.back() + block.active);
  }
  const double lead_s = layer->seconds.front().back();
  for (const SplitDevice& device : devices) {
    const double taken_s = device.send_busy_s + device.merge_s;
    const double least = lead_s > 0 ? taken_s / lead_s * layer->active.back() : 0;
    layer->least_active.push_back(std::min(least, kMaxSplitSeconds));
  }
}

HeldSplit CostModel::ProblemOf(const Group& group, const model::LayerRange& layers,
                               const HeldNeurons& held) const {
  HeldSplit result{.problem = {.devices = DevicesOf(group, layers), .layers = {}}, .split = {}};
  const ModelBytes bytes = ModelBytes::Of(inputs_.config, inputs_.weights, inputs_.ffn);
  for (int i = layers.begin; i < layers.end; ++i) {
    const LayerLoads& loads = FormOf(group).layers[static_cast<size_t>(i)];
    std::vector<size_t> holders;  // in the order of their neurons
    for (size_t m = 0; m < group.size(); ++m) {
      if (!held[m][static_cast<size_t>(i - layers.begin)].empty()) holders.push_back(m);
    }
    const auto range_of = [&](size_t m) { return held[m][static_cast<size_t>(i - layers.begin)]; };
    std::sort(holders.begin(), holders.end(),
              [&](size_t a, size_t b) { return range_of(a).begin < range_of(b).begin; });
    SplitLayer& layer = result.problem.layers.emplace_back();
    layer.fixed_s = SecondsOf(loads.before_ffn, SpeedOf(group.front()), {}, 1);
    LayerSplit& split = result.split.emplace_back(group.size());
    std::vector<int64_t> ends;
    for (const size_t m : holders) {
      const int block = static_cast<int>(ends.size());
      split[m] = {block, block + 1};
      ends.push_back(range_of(m).end);
      layer.block_bytes.push_back(bytes.Neurons(i, range_of(m)).sum());
    }
    const auto blocks = SharesOf(HeatIn(i, loads.mode), ends, inputs_.step.n_rows());
    for (const WorkerId worker : group) {
      layer.seconds.push_back(BlockSeconds(loads, blocks, SpeedOf(worker)));
    }
    AddLeastParts(blocks, result.problem.devices, &layer);
  }
  return result;
}

std::vector<SplitDevice> CostModel::DevicesOf(const Group& group,
                                              const model::LayerRange& layers) const {
  std::vector<SplitDevice> devices;
  const WorkerId lead = group.front();
  for (size_t d = 0; d < group.size(); ++d) {
    SplitDevice& device = devices.emplace_back();
    // The ops of all layers are alike but for their weights' sizes and types.
    device.part_s =
        FormOf(group).part_seconds[IndexOf(group[d])][static_cast<size_t>(layers.begin)];
    if (d == 0) continue;
    const Way out = WayInGroup(lead, group[d]), back = WayInGroup(group[d], lead);
    // Sending takes the thread that computes; the wire does not.
    device.send_busy_s = out.message_s;
    device.send_s = device.send_busy_s + TransferSeconds(out, Payload::kActivations);
    device.part_s += back.message_s;
    device.round_trip_s = out.latency_s + back.latency_s + TransferSeconds(back, Payload::kSums);
    device.merge_s = SpeedOf(lead).op_overhead_s();
  }
  return devices;
}

NeuronRange CostModel::NeuronsOf(const BlockRange& blocks) const {
  if (blocks.empty()) return {};
  const auto n_ff = static_cast<int64_t>(inputs_.config.n_ff);
  return {blocks.begin * block_neurons_, std::min(n_ff, blocks.end * block_neurons_)};
}

}  // namespace thermocline::placement
