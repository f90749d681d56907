// Messages for tests of their encoding.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/str.h"
#include "proto/messages.h"

namespace thermocline::proto {

// Seeded messages of every kind, with every field set to something in its range.
class Generator {
 public:
  explicit Generator(uint64_t seed) : random_(seed) {}

  Message Next(int kind) {
    switch (kind) {
      case 0:
        return MakeHello();
      case 1:
        return Welcome{.id = {U64()}, .epoch = {U64()}};
      case 2:
        return MakeAssignPlan();
      case 3:
        return LoadProgress{{U64()}, U64(), U64()};
      case 4:
        return Ready{{U64()}, U64(), U64(), U64(), U64(), Text(), U64(), NcclId(), NcclId()};
      case 5:
        return MakeStepBatch();
      case 6:
        return MakeStepResult();
      case 7:
        return MakePart();
      case 8:
        return Heartbeat{{U64()}, U64(), U64(), U64(), U64(), U64(), U64(), Int(0, 1 << 30)};
      case 9:
        return Failure{Status(StatusCode(Int(1, 8)), Text())};
      case 10:
        return ProbeLink{static_cast<uint32_t>(U64()),
                         {U64()},
                         Text(),
                         placement::LinkKind(Int(0, 1)),
                         Coin(),
                         static_cast<uint32_t>(Int(0, kMaxProbeBudgetUs)),
                         static_cast<uint32_t>(Int(0, kMaxProbeBudgetUs))};
      case 11:
        return LinkReport{static_cast<uint32_t>(U64()),
                          {U64()},
                          Text(),
                          std::abs(double(Float())),
                          std::abs(double(Float(0, 1e9f))),
                          std::abs(double(Float())),
                          Coin(),
                          Coin()};
      case 12:
        return Shutdown{Text()};
      case 13:
        return ClockProbe{Int(-9, 9)};
      case 14:
        return ClockEcho{Int(-9, 9), Int(-9, 9)};
      case 15:
        return MakeTraceSpans();
      case 16:
        return Leaving{Text()};
      case 17:
        return Stay{Text()};
      case 18:
        return MakeNeuronTable();
      case 19:
        return MakeFiringCounts();
      default:
        return LinkLost{{U64()}, {U64()}, Text()};
    }
  }
  static constexpr int kKinds = std::variant_size_v<Message>;

 private:
  uint64_t U64() { return random_(); }
  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool Coin() { return Int(0, 1) == 1; }
  float Float(float low = -4, float high = 4) {
    return std::uniform_real_distribution<float>(low, high)(random_);
  }
  std::string Text() {
    std::string text(Int(0, 40), '\0');
    for (char& c : text) c = static_cast<char>(Int(0, 255));
    return text;
  }
  std::vector<int32_t> Tokens(int least, int most) {
    std::vector<int32_t> tokens(Int(least, most));
    for (int32_t& token : tokens) token = Int(0, std::numeric_limits<int32_t>::max());
    return tokens;
  }
  std::vector<uint32_t> Times() {
    std::vector<uint32_t> times(Int(0, 4));
    for (uint32_t& time : times) time = static_cast<uint32_t>(U64());
    return times;
  }

  Hello MakeHello() {
    Hello hello{.protocol_version = static_cast<uint32_t>(U64()),
                .build = Text(),
                .host = Text(),
                .pid = Int(0, 1 << 22),
                .device = Text(),
                .mpi_address = Text(),
                .zmq_address = Text()};
    if (Coin()) hello.wanted_id = WorkerId{U64()};
    hello.profile = MakeProfile();
    hello.offers_host = Coin();
    hello.nccl_id = NcclId();
    hello.nccl_link_id = NcclId();
    hello.nccl_version = Text();
    hello.gpu_uuid = Text();
    return hello;
  }

  DType MakeDType() { return DType(Int(0, kNumDTypes - 1)); }

  placement::Figure MakeFigure() {
    return {std::abs(double(Float())), placement::Origin(Int(0, 3))};
  }

  placement::WorkerProfile MakeProfile() {
    placement::WorkerProfile profile{.id = {U64()},
                                     .host = Text(),
                                     .n_cores = Int(0, 512),
                                     .n_threads = Int(0, 512),
                                     .n_numa_nodes = Int(0, 8),
                                     .huge_pages = Coin(),
                                     .memory_bytes = U64(),
                                     .read_bytes_per_s = MakeFigure(),
                                     .gather_bytes_per_s = MakeFigure(),
                                     .op_overhead_s = MakeFigure()};
    profile.read_rates.resize(Int(0, 3));
    for (auto& rate : profile.read_rates) rate = {Int(1, 64), MakeFigure()};
    profile.compute_rates.resize(Int(0, 3));
    for (auto& rate : profile.compute_rates) rate = {MakeDType(), Int(1, 64), MakeFigure()};
    profile.weight_rates.resize(Int(0, 3));
    for (auto& rate : profile.weight_rates) {
      rate = {placement::WeightUse(Int(0, 2)), MakeDType(), 1.0 / Int(1, 20), Int(1, 64),
              MakeFigure()};
    }
    profile.gpus.resize(Int(0, 3));
    for (auto& gpu : profile.gpus) gpu = MakeGpu(static_cast<int>(profile.gpus.size()));
    profile.gpu = Int(-1, static_cast<int>(profile.gpus.size()) - 1);
    profile.nccl_version = Text();
    profile.neuron_rows = model::NeuronRows(Int(0, 2));
    return profile;
  }

  placement::GpuInfo MakeGpu(int n_gpus) {
    placement::GpuInfo gpu{.name = Text(),
                           .pci_bus_id = Text(),
                           .driver = Text(),
                           .compute_capability = Int(0, 130),
                           .memory_bytes = U64(),
                           .free_bytes = U64(),
                           .pcie_generation = Int(0, 7),
                           .pcie_lanes = Int(0, 16),
                           .n_nvlinks = Int(0, 18),
                           .nvlink_generation = Int(0, 5),
                           .numa_node = Int(-1, 7),
                           .cpus = Text(),
                           .read_bytes_per_s = MakeFigure(),
                           .upload_bytes_per_s = MakeFigure(),
                           .download_bytes_per_s = MakeFigure(),
                           .copy_s = MakeFigure()};
    gpu.peers.resize(Int(0, 3));
    for (auto& peer : gpu.peers) {
      peer = {Int(0, n_gpus - 1), placement::GpuPath(Int(0, 6)), Int(0, 18), Text(), MakeFigure(),
              MakeFigure()};
    }
    return gpu;
  }

  std::string NcclId() { return Coin() ? "" : std::string(kNcclIdBytes, char(Int(0, 255))); }

  TraceSpans MakeTraceSpans() {
    TraceSpans trace{.names = {Text(), Text()}, .tracks = {Text()}, .n_dropped = U64()};
    trace.spans.resize(static_cast<size_t>(Int(0, 3)));
    for (TraceSpan& span : trace.spans) {
      span = {static_cast<uint32_t>(Int(0, 1)),
              0,
              Int(-9, 9),
              Int(0, 9),
              Int(-1, model::kMaxLayers),
              {U64()},
              Int(0, kMaxStepTokens),
              U64()};
    }
    return trace;
  }

  placement::Plan MakePlan() {
    placement::Plan plan{.epoch = {U64()},
                         .model_fingerprint = Text(),
                         .n_layer = Int(0, 100),
                         .link = placement::LinkKind(Int(0, 1)),
                         .wire = DType(Int(0, 2)),
                         .kv = {Int(1, 64), Int(0, 1 << 20), DType(Int(0, 2))},
                         .n_ctx = Int(0, 1 << 17),
                         .micro_batches = Int(1, placement::kMaxMicroBatches)};
    plan.stages.resize(Int(1, 4));
    for (placement::StagePlan& stage : plan.stages) {
      stage = {{U64()}, {Int(0, 5), Int(5, 9), Coin(), Coin()}, U64(), U64(), U64(), U64(), U64(),
               Text()};
      stage.neurons = MakeNeurons();
      stage.heads = MakeHeads();
      stage.to_next = MakeLinkChoice();
      stage.helpers.resize(Int(0, 3));
      for (placement::HelperPlan& helper : stage.helpers) {
        helper = {{U64()}, MakeNeurons(), MakeHeads(),     {U64(), U64(), U64(), U64()},
                  U64(),   Text(),        MakeLinkChoice()};
      }
    }
    return plan;
  }

  model::HeadRange MakeHeads() { return {Int(0, 8), Int(8, 64)}; }

  Part MakePart() {
    Part part{{U64()}, {U64()}, Int(0, model::kMaxLayers), Int(1, kMaxStepTokens), Coin(), {}};
    part.sequences.resize(static_cast<size_t>(Int(0, 3)));
    for (PartSequence& sequence : part.sequences) {
      sequence = {Int(0, 1 << 20), Int(1, kMaxStepTokens), {}};
      sequence.page_ids.resize(static_cast<size_t>(Int(0, 40)));
      for (int32_t& page : sequence.page_ids) page = Int(0, 1 << 28);
    }
    return part;
  }

  placement::LinkChoice MakeLinkChoice() {
    placement::LinkChoice choice;
    if (Coin()) choice.link = placement::LinkKind(Int(0, 1));
    if (Coin()) choice.wire = DType(Int(0, 2));
    return choice;
  }

  std::vector<placement::NeuronRange> MakeNeurons() {
    std::vector<placement::NeuronRange> neurons(Int(0, 4));
    for (placement::NeuronRange& range : neurons) range = {Int(0, 500), Int(500, 1000)};
    return neurons;
  }

  NeuronTable MakeNeuronTable() {
    NeuronTable table{.epoch = {U64()}, .layer = Int(0, 100)};
    table.neurons.resize(static_cast<size_t>(Int(0, 300)));
    std::iota(table.neurons.begin(), table.neurons.end(), 0);
    std::shuffle(table.neurons.begin(), table.neurons.end(), random_);
    return table;
  }

  FiringCounts MakeFiringCounts() {
    FiringCounts counts{.epoch = {U64()}, .layer = Int(0, 100), .n_tokens = 1u + U64() % 1000};
    counts.counts.resize(static_cast<size_t>(Int(0, 300)));
    for (uint32_t& count : counts.counts) count = static_cast<uint32_t>(U64() % counts.n_tokens);
    if (Coin()) return counts;
    int32_t neuron = -1;
    for (size_t i = 0; i < counts.counts.size(); ++i) {
      counts.neurons.push_back(neuron += Int(1, 40));
    }
    return counts;
  }

  AssignPlan MakeAssignPlan() {
    AssignPlan assign{.plan = MakePlan(),
                      .model_path = Text(),
                      .model_fingerprint = Text(),
                      .model_bytes = U64(),
                      .header_bytes = U64(),
                      .weights_from = WeightsFrom(Int(0, 1)),
                      .bulk_endpoint = Text(),
                      .previous_address = Text(),
                      .next_address = Text(),
                      .ffn = *model::FfnModes::FromBits(static_cast<uint32_t>(Int(1, 15))),
                      .sparsity_path = Text(),
                      .max_step_tokens = Int(1, kMaxStepTokens),
                      .dump_logits_dir = Text(),
                      .n_neuron_tables = Int(0, 100)};
    assign.stage = Int(-1, static_cast<int>(assign.plan.stages.size()) - 1);
    assign.helper = Int(-1, placement::kMaxHelpers - 1);
    assign.helper_addresses.resize(Int(0, 3));
    for (std::string& address : assign.helper_addresses) address = Text();
    assign.lead_address = Text();
    assign.trace = Coin();
    assign.nccl_id = NcclId();
    assign.previous_nccl_id = NcclId();
    assign.next_nccl_id = NcclId();
    for (int helper = Int(0, 3); helper < 8; helper += Int(1, 5)) {
      assign.nccl_helpers.push_back(helper);
    }
    return assign;
  }

  SequenceStart MakeStart() {
    SequenceStart start{.n_prompt = Int(0, 5000), .min_tokens = Int(0, 9), .end_ids = Tokens(0, 3)};
    model::SamplingParams& params = start.params;
    params = {.temperature = Float(0, 4),
              .top_p = Float(0.1f, 1),
              .top_k = Int(-2, 100),
              .min_p = Float(0, 1),
              .presence_penalty = Float(-2, 2),
              .frequency_penalty = Float(-2, 2),
              .repetition_penalty = Float(0.1f, 4),
              .seed = U64(),
              .n_logprobs = Int(-1, 20),
              .n_prompt_logprobs = Int(-1, 20),
              .banned_ids = Tokens(0, 4)};
    for (const int32_t token : Tokens(0, 5)) params.logit_bias.push_back({token, Float()});
    return start;
  }

  StepBatch MakeStepBatch() {
    StepBatch batch{.epoch = {U64()}, .step = {U64()}, .stage_compute_us = Times()};
    batch.entries.resize(Int(0, 6));
    for (StepEntry& entry : batch.entries) {
      entry = {.seq = {U64()},
               .first_position = Int(0, 5000),
               .tokens = Tokens(1, 20),
               .sample = Coin()};
      if (Coin()) entry.start = MakeStart();
    }
    for (int i = Int(0, 4); i > 0; --i) batch.released.push_back({U64()});
    return batch;
  }

  model::SampledToken MakeSampled() {
    model::SampledToken sampled{.token = Int(0, 1 << 20), .logprob = Float()};
    for (const int32_t token : Tokens(0, 5)) sampled.top.push_back({token, Float()});
    return sampled;
  }

  StepResult MakeStepResult() {
    StepResult result{.epoch = {U64()}, .step = {U64()}, .stage_compute_us = Times()};
    result.entries.resize(Int(0, 6));
    for (StepResultEntry& entry : result.entries) {
      entry.seq = {U64()};
      if (Coin()) entry.sampled = MakeSampled();
      for (int i = Int(0, 3); i > 0; --i) entry.prompt_scores.push_back(MakeSampled());
    }
    return result;
  }

  std::mt19937_64 random_;
};

}  // namespace thermocline::proto
