// One stage of the pipeline: contiguous layers with their weights, KV pages and, on the last stage,
// the sampler. Turns a step's batch and activation into the next activation or the step's result,
// several batches at a time where the stage has helpers to wait for.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/buffer.h"
#include "base/status.h"
#include "kernels/device.h"
#include "model/config.h"
#include "model/sampler.h"
#include "placement/plan.h"
#include "proto/messages.h"
#include "worker/executor.h"
#include "worker/graph_table.h"
#include "worker/kv_cache.h"
#include "worker/layer_stack.h"
#include "worker/logits_head.h"
#include "worker/logits_sink.h"
#include "worker/program.h"
#include "worker/shard.h"
#include "worker/step_graphs.h"

namespace thermocline::worker {

struct StageOptions {
  model::LayerRange layers;
  FfnPlan ffn;
  placement::KvBudget kv;
  int max_step_tokens = 512;
  int n_ctx = 0;                   // the longest sequence, where it is beyond the model's own
  OpObserver* observer = nullptr;  // of all ops; outlives the stage
  Shard* prior = nullptr;          // of the plan before, see Shard::Load
  Tracer* tracer = nullptr;        // the same
  // Of the device's memory, for graphs of steps that it replays; 0: each op is launched anew.
  uint64_t graph_bytes = 0;
};

// Batches of `from` rows and more, but not of more than `most`.
struct RowBounds {
  int64_t from = 1;
  int64_t most = 0;
  bool Has(int64_t n_rows) const { return n_rows >= from && n_rows <= most; }
};

// Step thread only.
class Stage {
 public:
  // Loads the shard and sizes everything; afterwards steps allocate nothing that grows with use.
  // `logits_sink` may be null. Errors as Shard::Load, and kInvalidArgument for an FFN mode that the
  // model cannot run.
  static Result<std::unique_ptr<Stage>> Create(const ModelSource& source,
                                               const StageOptions& options, kernels::Device& device,
                                               LogitsSink* logits_sink,
                                               const LoadProgressFn& on_progress);

  // Whether `batch` can begin now. Batches under way need room beside each other, and one that
  // releases or starts a sequence which another computes waits for that to end.
  bool CanBegin(const proto::StepBatch& batch) const;
  // Begins one batch, which outlives its end; those that began before end before it. `input` is
  // x[n_tokens, n_embd], read here, unless this is the first stage; without data it is to be put
  // into input_place() before the next Advance. A batch that contradicts itself or the KV state is
  // refused with kInvalidArgument before anything changes.
  Status Begin(const proto::StepBatch& batch, TensorView input);
  // Where x of the batch that began last belongs, in the device's memory.
  TensorView input_place() const { return executor_->Input(by_age_.back()->run); }
  // Computes what can be computed, and waits for the device at the end of a batch. True: the oldest
  // batch is done, and Finish is next. False: there is none, or all wait for helpers. Errors as
  // Executor::Advance.
  Result<bool> Advance();
  // Ends the oldest batch. Its activation and results stay until the next Begin or Advance.
  void Finish();
  int n_under_way() const { return static_cast<int>(by_age_.size()); }
  // Moves whenever Advance has done something.
  uint64_t n_ops_done() const { return executor_->n_ops_done(); }

  // One batch from its begin to its end, where no other is under way.
  Status Run(const proto::StepBatch& batch, TensorView input);

  bool is_first() const { return options_.layers.has_embed; }
  bool is_last() const { return options_.layers.has_head; }
  // x[n_tokens, n_embd] of the batch done last, for the next stage: in host memory, or where it is
  // to stay, in the device's.
  TensorView activation() const { return activation_; }
  // Activations of so many rows stay in the device's memory; between batches. None do before.
  void set_staying_rows(RowBounds rows) { staying_rows_ = rows; }
  bool activation_stays() const { return staying_rows_.Has(activation_.n_rows); }
  // Of the batch done last, on the last stage.
  const std::vector<proto::StepResultEntry>& results() const { return results_; }
  const LoadReport& load_report() const { return shard_.report(); }
  const Shard& shard() const { return shard_; }
  // Before the first run; outlives the stage.
  void set_firing(FiringCounter* firing);
  // For another plan. Nothing can be run afterwards.
  Shard TakeShard() { return std::move(shard_); }
  // For people: "ffn auto: exact 12 layers, dense 4 layers", or "ffn dense". What runs most so far.
  std::string FfnText() const;
  // Of a stage that shares its neurons, before the first Run; outlives the stage.
  void set_exchange(PartExchange* exchange) { executor_->set_exchange(exchange); }
  // The same, of a stage with a group of GPUs; the stage's device waits through it.
  void set_group(StageGroup* group) { executor_->set_group(group); }
  int64_t kv_pages_used() const { return kv_.n_pages_used(); }
  // Null where no step is replayed.
  const StepGraphs* graphs() const { return graphs_.get(); }
  // Null but on the last stage.
  const LogitsHead* head() const { return head_.get(); }
  const model::ModelConfig& config() const { return config_; }

 private:
  struct Sequence {
    std::vector<int32_t> page_ids;
    int64_t n_positions = 0;
    // Last stage only.
    model::SamplingParams params;
    model::SamplingParams params_before_end;  // bans the end ids while min_tokens are not reached
    int32_t n_prompt = 0;
    int32_t min_tokens = 0;
    model::TokenHistory history;
    std::vector<float> chunk_end_logits;  // of a prompt being scored in chunks
  };
  // A batch under way; its vectors are kept to reuse their memory.
  struct Batch {
    const proto::StepBatch* step = nullptr;
    int run = kNoRun;         // of the executor; kNoRun for a batch without rows
    bool may_replay = false;  // and has begun no program
    bool passed_embed = false;
    bool passed_layers = false;
    std::vector<int32_t> tokens;
    std::vector<int64_t> positions;
    std::vector<kernels::SequenceRows> rows;
    int64_t n_rows() const { return static_cast<int64_t>(tokens.size()); }
  };
  // A row whose logits somebody wants.
  struct LogitsRow {
    int row = 0;
    int entry = 0;
    int64_t position = 0;
  };

  Stage(const ModelSource& source, StageOptions options, kernels::Device& device,
        LogitsSink* logits_sink);
  Status Build(const ModelSource& source);
  Status BuildHead(const model::WeightIndex& weights);
  bool MayReplay() const;
  // Whether its layers exchange nothing with others, so that a step may be replayed as one.
  bool is_alone() const;

  Status Check(const proto::StepBatch& batch, TensorView input) const;
  Status CheckEntry(const proto::StepEntry& entry, bool is_released) const;
  static void Start(const proto::SequenceStart& start, Sequence* sequence);
  void ReleaseSequences(const std::vector<SeqId>& released);
  Status PlaceRows(const proto::StepBatch& step, Batch* batch);
  void StartRun(TensorView input, Batch* batch);
  void StartPrograms(const Batch& batch);
  // Of a batch that may: else its programs start.
  Status TryReplay(Batch* batch);
  void OnProgramDone(int run);
  void OnLayersDone(Batch* batch);
  Batch* FreeBatch();
  bool IsUnderWay(SeqId seq) const;

  Status EndBatch(const Batch& batch);

  // How many of the best logits of these rows are enough for their sequences; 0: all are wanted.
  int BestWanted(const proto::StepBatch& batch, std::span<const LogitsRow> rows) const;
  void SampleBest(const proto::StepBatch& batch, std::span<const LogitsRow> rows, TensorView best);
  static const model::SamplingParams& ParamsAt(const Sequence& sequence, int64_t position);
  Status RunHead(const proto::StepBatch& batch);
  void CollectLogitsRows(const proto::StepBatch& batch);
  Status RunHeadBlock(const proto::StepBatch& batch, std::span<const LogitsRow> rows);
  void UseBlock(const proto::StepBatch& batch, std::span<const LogitsRow> rows, TensorView logits);
  void UseLogits(const proto::StepEntry& entry, const LogitsRow& row, std::span<const float> logits,
                 proto::StepResultEntry* result);
  void ScoreChunkStart(const proto::StepEntry& entry, Sequence* sequence,
                       proto::StepResultEntry* result);
  void ScorePrompt(const proto::StepEntry& entry, int64_t position, std::span<const float> logits,
                   Sequence* sequence, proto::StepResultEntry* result);
  void Remember(const proto::StepEntry& entry, Sequence* sequence);

  const model::ModelConfig& config_;
  kernels::Device& device_;
  const StageOptions options_;
  LogitsSink* const logits_sink_;
  Shard shard_;
  KvCache kv_;
  std::optional<Program> embed_;  // first stage only
  std::optional<LayerStack> layers_;
  std::unique_ptr<Executor> executor_;
  std::unique_ptr<GraphTable> graph_table_;  // null: no step is replayed
  std::unique_ptr<StepGraphs> graphs_;       // of what the executor runs
  std::unique_ptr<LogitsHead> head_;         // last stage only
  model::Sampler sampler_;
  std::unordered_map<SeqId, Sequence> sequences_;

  std::array<Batch, kMaxRuns> batches_;
  std::vector<Batch*> by_age_;  // those under way, the oldest first
  std::vector<LogitsRow> logits_rows_;
  std::vector<int32_t> block_rows_;  // of the activation
  std::vector<model::BestLogit> best_;
  std::vector<proto::StepResultEntry> results_;
  RowBounds staying_rows_;
  TensorView activation_;  // on the last stage in the device's memory
};

}  // namespace thermocline::worker
