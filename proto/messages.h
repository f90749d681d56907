// What the programs of a cluster say to each other, as plain structs; codec.h turns them into
// bytes.
//
// Control plane (Mailbox): Hello -> Welcome -> (ProbeLink -> LinkReport)* -> NeuronTable* ->
// AssignPlan -> LoadProgress* -> Ready, then StepBatch to the first stage and StepResult from the
// last one, Heartbeat both ways, FiringCounts, LinkLost and Leaving from workers, and
// Shutdown/Failure. A later AssignPlan, of the next epoch, is another plan; steps come again when
// all are ready. Data plane (Link): a StepBatch is the header of the frame whose payload is the
// activation x[n_tokens, n_embd], unless GPUs move it; a Part is that of x and of sums within a
// stage.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "model/ffn_mode.h"
#include "model/sampler.h"
#include "model/sampling_params.h"
#include "placement/plan.h"
#include "placement/profile.h"

namespace thermocline::proto {

// Peers of another version are refused by name: layouts of frames may differ.
inline constexpr uint32_t kProtocolVersion = 5;

// Where members of a group of GPUs meet, as NCCL makes it up on the one that leads them: so many
// bytes, or none. It serves one group, once.
inline constexpr size_t kNcclIdBytes = 128;

// Worker -> coordinator, first message: who I am and what I have.
struct Hello {
  uint32_t protocol_version = kProtocolVersion;
  std::string build;
  std::optional<WorkerId> wanted_id;  // the MPI rank when there is one
  std::string host;
  int64_t pid = 0;
  placement::WorkerProfile profile;  // id is not set yet
  std::string device;                // "cpu avx3 x4"
  std::string mpi_address;           // "mpi:2" or ""
  std::string zmq_address;           // tcp endpoints, or "" when not opened
  // Its memory is what was free on its host: nobody has said how much of it is this worker's.
  bool offers_host = false;
  std::string nccl_id;       // for the first group that this worker will lead; or ""
  std::string nccl_link_id;  // the same, for the first link to a next stage on a GPU
  // Of a worker on a GPU that can be in a group; else "".
  std::string nccl_version;
  std::string gpu_uuid;  // of its card; no two members of a group have one together
  friend bool operator==(const Hello&, const Hello&) = default;
};

// Coordinator -> worker: you are `id`.
struct Welcome {
  WorkerId id;
  Epoch epoch;
  friend bool operator==(const Welcome&, const Welcome&) = default;
};

enum class WeightsFrom : uint8_t { kFile, kCoordinator };

// Coordinator -> worker: your part of a plan, and how to load and run it.
struct AssignPlan {
  placement::Plan plan;
  int stage = -1;                 // index into plan.stages; -1: spare
  int helper = -1;                // index into the stage's helpers; -1: its lead
  std::string model_path;         // on this worker's host, unless weights come from the coordinator
  std::string model_fingerprint;  // see model/fingerprint.h; a different file is refused
  uint64_t model_bytes = 0;
  uint64_t header_bytes = 0;  // of the GGUF header, to fetch when weights come by wire
  WeightsFrom weights_from = WeightsFrom::kFile;
  std::string bulk_endpoint;     // of the bulk channel; "" unless weights come by wire
  std::string previous_address;  // data-plane address of the previous stage; "" for the first
  std::string next_address;      // of the next stage; "" for the last
  std::vector<std::string> helper_addresses;  // for the lead: of its helpers, in the plan's order
  std::string lead_address;                   // for a helper
  model::FfnModes ffn = model::FfnMode::kDense;  // to choose from per layer and batch
  std::string sparsity_path;    // on this worker's host; "": what the model file itself has
  int max_step_tokens = 512;    // rows of scratch
  std::string dump_logits_dir;  // diagnostics: the last stage writes logits here; "" = off
  int n_neuron_tables = 0;      // sent for this epoch before; other layers keep their order
  bool trace = false;           // TraceSpans are wanted
  // For the members of a stage's group: where their GPUs meet, as the lead told in its Hello or
  // last Ready; "" if there is none.
  std::string nccl_id;
  // The helpers of the stage, ascending, that are in a group with its lead; each has one rank more
  // than it has helpers before it here. None: there is no group, and sums go over links.
  std::vector<int> nccl_helpers;
  // For leads of stages: where the GPUs of neighbours meet, as the one of the stage before told;
  // "" where activations go by way of the hosts.
  std::string previous_nccl_id;
  std::string next_nccl_id;
  friend bool operator==(const AssignPlan&, const AssignPlan&) = default;
};

struct LoadProgress {
  Epoch epoch;
  uint64_t bytes_done = 0;
  uint64_t bytes_total = 0;
  friend bool operator==(const LoadProgress&, const LoadProgress&) = default;
};

struct Ready {
  Epoch epoch;
  uint64_t owned_bytes = 0;  // of the plan
  uint64_t read_bytes = 0;   // touched in the file or fetched
  uint64_t peak_rss_bytes = 0;
  // Checksum of the order in which its neurons stand, 0 for the file's: members of a stage that is
  // shared must agree on it.
  uint64_t neuron_order = 0;
  std::string note;          // "ffn_down of 6 layers re-laid to F16 rows", for the log
  uint64_t kept_bytes = 0;   // in memory, of the epoch before: neither read nor fetched again
  std::string nccl_id;       // for the next group that this worker will lead; or ""
  std::string nccl_link_id;  // the same, for the next link to a next stage on a GPU
  friend bool operator==(const Ready&, const Ready&) = default;
};

// What a stage must know of a sequence once, with its first rows (or again after a re-prefill).
struct SequenceStart {
  model::SamplingParams params;
  int32_t n_prompt = 0;  // tokens of the request; those after it are generated
  // While fewer than min_tokens are generated, the sampler bans end_ids besides params.banned_ids.
  int32_t min_tokens = 0;
  std::vector<int32_t> end_ids;
  friend bool operator==(const SequenceStart&, const SequenceStart&) = default;
};

// One sequence's rows in a step, at most one entry per step. A sequence may be in several
// outstanding steps with the chunks of its prefill, which follow each other; a step that needs a
// sampled token comes after that token's StepResult.
struct StepEntry {
  SeqId seq;
  int64_t first_position = 0;
  std::vector<int32_t> tokens;
  bool sample = false;  // the last row's logits choose the next token
  std::optional<SequenceStart> start;
  friend bool operator==(const StepEntry&, const StepEntry&) = default;
};

// One batch through all stages; rows of the activation are the entries' tokens in order. Every step
// with entries is answered by one StepResult that has an entry per sequence. A step without entries
// only releases; it passes through all stages too.
struct StepBatch {
  Epoch epoch;
  StepId step;
  std::vector<StepEntry> entries;
  std::vector<SeqId> released;             // since the last step: free their KV before this one
  std::vector<uint32_t> stage_compute_us;  // appended by each stage that has run it
  int64_t n_tokens() const;
  friend bool operator==(const StepBatch&, const StepBatch&) = default;
};

struct StepResultEntry {
  SeqId seq;
  std::optional<model::SampledToken> sampled;
  // When asked for: of the entry's tokens that belong to the prompt, each by the logits of the row
  // before it, which for the first token of a later chunk was the last row of the chunk before. The
  // very first token of a prompt has none.
  std::vector<model::SampledToken> prompt_scores;
  friend bool operator==(const StepResultEntry&, const StepResultEntry&) = default;
};

// Last stage -> coordinator.
struct StepResult {
  Epoch epoch;
  StepId step;
  std::vector<StepResultEntry> entries;
  std::vector<uint32_t> stage_compute_us;
  friend bool operator==(const StepResult&, const StepResult&) = default;
};

// Rows of one sequence in a step, and the pages of its keys and values up to their last position:
// the lead's own numbers, which its helpers use alike.
struct PartSequence {
  int64_t first_position = 0;
  int64_t n_tokens = 0;
  std::vector<int32_t> page_ids;
  friend bool operator==(const PartSequence&, const PartSequence&) = default;
};

// Between the members of a stage that share its neurons, as the header of x from the lead and of
// the sum from a helper: rows of one step, before or after the FFN of one layer; or before and
// after the attention, between those that share its heads. Between stages on
// GPUs, before the first batch: rows of a trial and the word that they are there, until one of
// step 1 ends it.
struct Part {
  Epoch epoch;
  StepId step;
  int layer = 0;  // of the model
  int64_t n_rows = 0;
  bool of_heads = false;
  // From the lead, with the first layer's heads: what the rows are, in all layers of the stage.
  std::vector<PartSequence> sequences;
  friend bool operator==(const Part&, const Part&) = default;
};

// Both ways, every heartbeat interval; a worker's carries its numbers.
struct Heartbeat {
  Epoch epoch;
  uint64_t steps_done = 0;
  uint64_t peak_rss_bytes = 0;
  uint64_t compute_us = 0;  // total time in ops
  uint64_t wait_us = 0;     // total time waiting for a frame
  uint64_t link_bytes_sent = 0;
  uint64_t stale_frames = 0;  // dropped: older epoch
  int64_t kv_pages_used = 0;
  friend bool operator==(const Heartbeat&, const Heartbeat&) = default;
};

// Worker -> coordinator: I cannot go on. The worker exits after sending it.
struct Failure {
  Status status;
};

// Coordinator -> worker: end yourself now (exit code 0). Worker -> coordinator: I am leaving.
struct Shutdown {
  std::string reason;
  friend bool operator==(const Shutdown&, const Shutdown&) = default;
};

// Coordinator -> two workers at a time: measure the link between you. One leads, the other sends
// back what it gets. Before there is a plan, or when one of the two has just joined a service.
struct ProbeLink {
  uint32_t round = 0;   // another one each time; told back, and borne by the frames of the probe
  WorkerId peer;        // the other end
  std::string address;  // of its port
  placement::LinkKind transport = placement::LinkKind::kZmq;
  bool leads = false;
  uint32_t budget_us = 0;  // what the samples may take; the first answer may take longer
  // While the cluster serves: until when, from now on, a lead that has steps to do may begin, and
  // for how long the other end waits for it. 0: both begin at once.
  uint32_t patience_us = 0;
  friend bool operator==(const ProbeLink&, const ProbeLink&) = default;
};

// Worker -> coordinator: what came of it.
struct LinkReport {
  uint32_t round = 0;
  WorkerId peer;
  std::string error;           // why nothing was measured; "": it was
  double round_trip_s = 0;     // of a small frame there and back; of the leading end, else 0
  double bytes_per_s = 0;      // of large frames, one way; of the leading end, else 0
  double message_s = 0;        // of this end's time for sending a small frame
  bool rate_is_bound = false;  // large frames did not come back in time: it is below bytes_per_s
  bool echo_waits = false;     // the other end will have nothing to report
  friend bool operator==(const LinkReport&, const LinkReport&) = default;
};

// Coordinator -> worker, while it traces: what time is it there? The worker answers at once.
struct ClockProbe {
  int64_t sent_ns = 0;  // of the coordinator's clock
  friend bool operator==(const ClockProbe&, const ClockProbe&) = default;
};
struct ClockEcho {
  int64_t sent_ns = 0;  // the probe's
  int64_t at_ns = 0;    // of the worker's clock
  friend bool operator==(const ClockEcho&, const ClockEcho&) = default;
};

// One thing that a worker did or waited for, in times of its clock.
struct TraceSpan {
  uint32_t name = 0;   // into names
  uint32_t track = 0;  // into tracks
  int64_t begin_ns = 0;
  int64_t duration_ns = 0;
  int layer = -1;  // of the model; -1: of none
  StepId step;
  int64_t n_rows = 0;
  uint64_t n_bytes = 0;  // read from memory, or moved over a link
  friend bool operator==(const TraceSpan&, const TraceSpan&) = default;
};

// Worker -> coordinator, while it traces: the latest spans, with the names they use.
struct TraceSpans {
  std::vector<std::string> names;
  std::vector<std::string> tracks;
  std::vector<TraceSpan> spans;
  uint64_t n_dropped = 0;  // spans of this worker that were lost so far
  friend bool operator==(const TraceSpans&, const TraceSpans&) = default;
};

// Worker -> coordinator: I was asked to end; plan without me. Answered by a Shutdown when my work
// is done elsewhere, or by a Stay.
struct Leaving {
  std::string reason;
  friend bool operator==(const Leaving&, const Leaving&) = default;
};

// Coordinator -> worker: you cannot be spared, and why.
struct Stay {
  std::string reason;
  friend bool operator==(const Stay&, const Stay&) = default;
};

// Worker -> coordinator: my link to `peer` is gone, so nothing of this epoch goes on here. I keep
// my weights and wait for another plan.
struct LinkLost {
  Epoch epoch;
  WorkerId peer;
  std::string reason;
  friend bool operator==(const LinkLost&, const LinkLost&) = default;
};

// Coordinator -> worker, before the AssignPlan of `epoch`: the order in which a layer's neurons
// stand from then on.
struct NeuronTable {
  Epoch epoch;
  int layer = 0;
  std::vector<int32_t> neurons;  // by place; each of the layer once
  friend bool operator==(const NeuronTable&, const NeuronTable&) = default;
};

// Worker -> coordinator, now and then: how often neurons of a layer fired since the last time, in
// the tokens that were looked at.
struct FiringCounts {
  Epoch epoch;
  int layer = 0;
  uint64_t n_tokens = 0;         // looked at
  std::vector<int32_t> neurons;  // of the file, ascending; none: all of the layer
  std::vector<uint32_t> counts;  // of each, at most n_tokens
  friend bool operator==(const FiringCounts&, const FiringCounts&) = default;
};

using Message =
    std::variant<Hello, Welcome, AssignPlan, LoadProgress, Ready, StepBatch, StepResult, Part,
                 Heartbeat, Failure, Shutdown, ProbeLink, LinkReport, ClockProbe, ClockEcho,
                 TraceSpans, Leaving, Stay, NeuronTable, FiringCounts, LinkLost>;

}  // namespace thermocline::proto
