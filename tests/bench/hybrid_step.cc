// A step of one token in a stage whose lead is on one device and whose helper is on the CPU,
// against what each of the two takes by itself: with the workers' own step loops, in one process,
// joined by the links that workers of one host have.
//
//   hybrid_step MODEL [LEAD_SHARE [LEAD_DEVICE [HELPER_THREADS [FFN]]]]
//   default:           0.33        cuda         0: all cores but one  exact
//
// The lead's part is a step of a stage that has no other neurons than the lead's, so nothing is
// sent; the helper's part is what it computes in a step. Neurons stand in the order of
// M.profile.gguf, where there is one beside M.gguf.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "comm/cluster_key.h"
#include "comm/data_ports.h"
#include "comm/loopback.h"
#include "model/ffn_mode.h"
#include "model/fingerprint.h"
#include "proto/codec.h"
#include "tests/bench/bench_device.h"
#include "tests/bench/median.h"
#include "worker/step_loop.h"

namespace thermocline::bench {
namespace {

constexpr WorkerId kLead{1}, kHelper{2};
constexpr SeqId kSequence{1};
constexpr int kMostWarmUpSteps = 16, kMostSteps = 64;
constexpr int64_t kPages = 16;
constexpr Duration kPatience = std::chrono::seconds(60);

struct Options {
  std::string model_path;
  double lead_share = 0.33;
  std::string lead_device = "cuda";
  int helper_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) - 1);
  model::FfnModes ffn = model::FfnMode::kExact;
};

struct Times {
  double step_s = 0;
  double helper_s = 0;  // of computing, in a step
};

// A member of the stage with all that its step loop needs.
struct Member {
  std::unique_ptr<comm::Mailbox> mailbox;
  std::unique_ptr<comm::DataPort> port;
  std::unique_ptr<kernels::Device> device;
  worker::StepCounters counters;
  std::unique_ptr<worker::StepLoop> loop;
};

class Stage {
 public:
  explicit Stage(const Options& options) : options_(options), server_(mailboxes_.MakeServer()) {}

  Status Open() {
    TC_ASSIGN_OR_RETURN(lead_.device, OpenDevice(options_.lead_device));
    TC_ASSIGN_OR_RETURN(helper_.device, kernels::MakeCpuDevice({options_.helper_threads, {}}));
    TC_RETURN_IF_ERROR(Connect(kLead, &lead_));
    TC_RETURN_IF_ERROR(Connect(kHelper, &helper_));
    return Describe();
  }

  // With the helper, or with the lead's neurons only.
  Result<Times> Measure(bool has_helper) {
    message_.plan.stages = {stage_};
    message_.helper_addresses = {helper_.port->address()};
    if (has_helper) {
      StartLoop(0, kHelper, &helper_);
    } else {
      message_.plan.stages.front().helpers.clear();
      message_.helper_addresses.clear();
    }
    StartLoop(-1, kLead, &lead_);
    const Result<Times> times = Decode(has_helper ? 2 : 1);
    lead_.loop.reset();
    helper_.loop.reset();
    return times;
  }

  std::string LeadName() const { return lead_.device->name(); }
  std::string HelperName() const { return helper_.device->name(); }

 private:
  Status Connect(WorkerId id, Member* member) {
    TC_ASSIGN_OR_RETURN(member->mailbox, mailboxes_.Connect(comm::PeerId{id.value}));
    TC_ASSIGN_OR_RETURN(member->port, comm::MakeZmqDataPort({.key = key_, .self = id}));
    return OkStatus();
  }

  Status Describe() {
    TC_ASSIGN_OR_RETURN(const auto reader, model::OpenMappedFile(options_.model_path));
    TC_ASSIGN_OR_RETURN(const auto gguf, model::GgufFile::Parse(*reader));
    TC_ASSIGN_OR_RETURN(const auto config, model::ModelConfig::FromGguf(gguf));
    TC_ASSIGN_OR_RETURN(message_.model_fingerprint, model::FingerprintOf(*reader, gguf));
    message_.model_path = options_.model_path;
    message_.model_bytes = reader->size_bytes();
    message_.header_bytes = gguf.header_bytes();
    message_.ffn = options_.ffn;
    message_.max_step_tokens = 32;
    message_.stage = 0;
    message_.plan.epoch = {1};
    message_.plan.kv.n_pages = kPages;
    const auto n_hot = static_cast<int64_t>(static_cast<double>(config.n_ff) * options_.lead_share);
    const auto n_layers = static_cast<size_t>(config.n_layer);
    stage_ = {.lead = kLead, .layers = {0, config.n_layer, true, true}};
    stage_.neurons.assign(n_layers, {0, n_hot});
    stage_.helpers.push_back({.worker = kHelper, .neurons = {}});
    stage_.helpers.back().neurons.assign(n_layers, {n_hot, config.n_ff});
    message_.lead_address = lead_.port->address();
    return OkStatus();
  }

  void StartLoop(int helper, WorkerId id, Member* member) {
    worker::Assignment assignment;
    assignment.self = id;
    assignment.message = message_;
    assignment.message.helper = helper;
    member->loop = std::make_unique<worker::StepLoop>(
        worker::StepContext{.clock = clock_,
                            .mailbox = *member->mailbox,
                            .ports = {.zmq = member->port.get()},
                            .device = *member->device,
                            .counters = member->counters,
                            .cpus = {},
                            .holdings = {.graph_bytes = worker::kMaxGraphBytes}},
        std::move(assignment), [](const worker::StepEnd& end) {
          LogError("bench", end.why.message());
          std::_Exit(1);  // nothing goes on without it
        });
  }

  template <typename Kind>
  Status Await() {
    while (true) {
      TC_ASSIGN_OR_RETURN(const auto received, server_->Receive(clock_.Now() + kPatience));
      if (!received) return DeadlineExceeded("a step loop says nothing");
      TC_ASSIGN_OR_RETURN(const proto::Message message, proto::Decode(received->frame.header));
      if (std::holds_alternative<Kind>(message)) return OkStatus();
    }
  }

  Status Step(uint64_t number, int64_t position, std::vector<int32_t> tokens) {
    proto::StepEntry entry{
        .seq = kSequence, .first_position = position, .tokens = std::move(tokens), .sample = true};
    if (position == 0) {
      entry.start.emplace();
      entry.start->params.temperature = 0;
      entry.start->n_prompt = static_cast<int32_t>(entry.tokens.size());
    }
    if (!lead_.loop->Submit({.epoch = {1}, .step = {number}, .entries = {std::move(entry)}})) {
      return Internal("the lead takes no steps");
    }
    return Await<proto::StepResult>();
  }

  Result<Times> Decode(int n_loops) {
    for (int i = 0; i < n_loops; ++i) TC_RETURN_IF_ERROR(Await<proto::Ready>());
    TC_RETURN_IF_ERROR(Step(1, 0, {5, 17, 42, 99}));
    std::vector<double> seconds;
    uint64_t helper_us = 0;
    const int n_warm_up = RepeatsOn(options_.lead_device, kMostWarmUpSteps);
    const int n_steps = RepeatsOn(options_.lead_device, kMostSteps);
    for (int i = 0; i < n_warm_up + n_steps; ++i) {
      if (i == n_warm_up) helper_us = helper_.counters.compute_us;
      const TimePoint begin = clock_.Now();
      TC_RETURN_IF_ERROR(Step(static_cast<uint64_t>(2 + i), 4 + i, {i * 37 % 250}));
      if (i >= n_warm_up) seconds.push_back(Seconds(clock_.Now() - begin));
    }
    helper_us = helper_.counters.compute_us - helper_us;
    return Times{MedianOf(seconds), static_cast<double>(helper_us) / 1e6 / n_steps};
  }

  const Options options_;
  const SteadyClock clock_{};
  comm::LoopbackMailboxHub mailboxes_;
  const std::unique_ptr<comm::Mailbox> server_;
  const comm::ClusterKey key_ = comm::ClusterKey::Generate();
  Member lead_, helper_;
  placement::StagePlan stage_;
  proto::AssignPlan message_;
};

Status Run(const Options& options) {
  Stage stage(options);
  TC_RETURN_IF_ERROR(stage.Open());
  TC_ASSIGN_OR_RETURN(const Times alone, stage.Measure(false));
  TC_ASSIGN_OR_RETURN(const Times both, stage.Measure(true));
  const double most = std::max(alone.step_s, both.helper_s);
  std::printf("%s leads with %.0f %% of the neurons, %s helps\n\n", stage.LeadName().c_str(),
              options.lead_share * 100, stage.HelperName().c_str());
  std::printf("| hybrid step | lead's part | helper's part | step / larger part |\n");
  std::printf("|---:|---:|---:|---:|\n| %.2f ms | %.2f ms | %.2f ms | %.2f (wanted 1.10) |\n",
              both.step_s * 1e3, alone.step_s * 1e3, both.helper_s * 1e3, both.step_s / most);
  return OkStatus();
}

}  // namespace
}  // namespace thermocline::bench

int main(int argc, char** argv) {
  thermocline::bench::Options options;
  if (argc > 1) options.model_path = argv[1];
  if (argc > 2) options.lead_share = std::atof(argv[2]);
  if (argc > 3) options.lead_device = argv[3];
  if (argc > 4 && std::atoi(argv[4]) > 0) options.helper_threads = std::atoi(argv[4]);
  const auto ffn = thermocline::model::ParseFfnMode(argc > 5 ? argv[5] : "exact");
  if (argc < 2 || options.lead_share <= 0 || options.lead_share >= 1 || !ffn.ok()) {
    std::fprintf(stderr, "hybrid_step MODEL [LEAD_SHARE [LEAD_DEVICE [HELPER_THREADS [FFN]]]]\n");
    return 2;
  }
  options.ffn = *ffn;
  const auto status = thermocline::bench::Run(options);
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
