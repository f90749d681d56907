#include "worker/stage.h"

#include <algorithm>
#include <bit>

#include "base/str.h"
#include "base/units.h"
#include "model/ffn_policy.h"
#include "model/graph.h"

namespace thermocline::worker {
namespace {

using proto::StepBatch;
using proto::StepEntry;
using proto::StepResultEntry;

// Rows of logits computed together, as the plan has counted their scratch.
using placement::kLogitsBlockRows;

}  // namespace

Stage::Stage(const ModelSource& source, StageOptions options, kernels::Device& device,
             LogitsSink* logits_sink)
    : config_(source.config),
      device_(device),
      options_(std::move(options)),
      logits_sink_(logits_sink) {}

Result<std::unique_ptr<Stage>> Stage::Create(const ModelSource& source, const StageOptions& options,
                                             kernels::Device& device, LogitsSink* logits_sink,
                                             const LoadProgressFn& on_progress) {
  TC_RETURN_IF_ERROR(CheckModes(source, options.ffn.modes));
  TC_RETURN_IF_ERROR(
      device.Prepare({.max_rows = std::max(options.max_step_tokens, kLogitsBlockRows),
                      .max_pages = options.kv.n_pages,
                      .head_dim = source.config.head_dim}));
  std::unique_ptr<Stage> stage(new Stage(source, options, device, logits_sink));
  TC_ASSIGN_OR_RETURN(stage->shard_, Shard::Load(source, options.layers, options.ffn, device,
                                                 on_progress, options.prior));
  const int n_layers = options.layers.end - options.layers.begin;
  const model::HeadShare& heads = options.ffn.heads;
  const int n_heads = heads.is_shared() ? heads.own.size() : source.config.n_head_kv;
  TC_ASSIGN_OR_RETURN(stage->kv_,
                      KvCache::Create(source.config, n_heads, n_layers, options.kv, device));
  TC_RETURN_IF_ERROR(stage->Build(source));
  return stage;
}

Status Stage::Build(const ModelSource& source) {
  const model::LayerRange& layers = options_.layers;
  if (layers.has_embed) {
    TC_ASSIGN_OR_RETURN(embed_,
                        Program::Lower(model::BuildEmbedGraph(config_), shard_, layers.begin));
  }
  TC_ASSIGN_OR_RETURN(layers_, LayerStack::Lower(source, layers, options_.ffn, shard_));
  const int64_t embed_cols = embed_ ? embed_->scratch_cols() : config_.n_embd;
  const FfnPlan& ffn = options_.ffn;
  const bool waits = ffn.waits();
  int n_others = static_cast<int>(ffn.heads.by_link.size());
  for (const int n : ffn.n_helpers) n_others = std::max(n_others, n);
  const ExecutorOptions scratch{.scratch_cols = std::max(layers_->scratch_cols(), embed_cols),
                                .max_rows = std::max(options_.max_step_tokens, kLogitsBlockRows),
                                .max_runs = waits ? kMaxRuns : 1,
                                .n_members = 1 + n_others,
                                .heads_cols = ffn.heads.by_link.empty() ? 0 : config_.n_embd_q()};
  TC_ASSIGN_OR_RETURN(executor_, Executor::Create(config_, device_, scratch));
  by_age_.reserve(batches_.size());
  executor_->set_observer(options_.observer);
  executor_->set_tracer(options_.tracer, layers.begin);
  if (MayReplay()) {
    graph_table_ = std::make_unique<GraphTable>(device_, options_.graph_bytes);
    const RecordedStage recorded{*executor_, *layers_, kv_, embed_ ? &*embed_ : nullptr};
    // What a group does is no part of a graph: what it was done with may be given up.
    const bool in_group = !ffn.in_group.empty() || !ffn.heads.by_group.empty();
    if (!in_group) graphs_ = std::make_unique<StepGraphs>(recorded, *graph_table_);
  }
  if (layers.has_head) TC_RETURN_IF_ERROR(BuildHead(source.weights));
  return OkStatus();
}

bool Stage::is_alone() const {
  const FfnPlan& ffn = options_.ffn;
  return !ffn.waits() && !ffn.heads.is_shared();
}

// Who watches ops wants them one by one.
bool Stage::MayReplay() const {
  const bool is_watched = options_.observer != nullptr || options_.tracer != nullptr;
  return options_.graph_bytes > 0 && device_.recorder() != nullptr && !is_watched;
}

Status Stage::BuildHead(const model::WeightIndex& weights) {
  TC_ASSIGN_OR_RETURN(Program program, Program::Lower(model::BuildHeadGraph(config_, weights),
                                                      shard_, options_.layers.begin));
  best_.reserve(kernels::kMaxBest);
  block_rows_.reserve(kLogitsBlockRows);
  TC_ASSIGN_OR_RETURN(head_, LogitsHead::Create(config_, std::move(program), device_,
                                                {.max_rows = kLogitsBlockRows,
                                                 .observer = options_.observer,
                                                 .tracer = options_.tracer,
                                                 .first_layer = options_.layers.begin,
                                                 .graphs = graph_table_.get()}));
  return OkStatus();
}

void Stage::set_firing(FiringCounter* firing) {
  executor_->set_firing(firing);
  if (graphs_ != nullptr) graphs_->set_firing(firing);
}

std::string Stage::FfnText() const {
  const std::string modes = layers_->ModesText();
  const std::string asked =
      options_.ffn.modes.size() > 1 ? "auto" : model::FfnModesText(options_.ffn.modes);
  return modes == asked ? Str("ffn ", asked) : Str("ffn ", asked, ": ", modes);
}

Status Stage::Check(const StepBatch& batch, TensorView input) const {
  const int64_t n_tokens = batch.n_tokens();
  if (n_tokens > options_.max_step_tokens) {
    return InvalidArgument(Str("step has too many tokens:", Kv("step", batch.step),
                               Kv("tokens", n_tokens), Kv("max", options_.max_step_tokens)));
  }
  if (!is_first() && n_tokens > 0 && (input.n_rows != n_tokens || input.n_cols != config_.n_embd)) {
    return InvalidArgument(
        Str("activation has another shape than its step:", Kv("step", batch.step),
            Kv("rows", input.n_rows), Kv("tokens", n_tokens), Kv("cols", input.n_cols)));
  }
  // Searched one by one: a step has tens of entries, and a step allocates nothing.
  for (auto at = batch.entries.begin(); at != batch.entries.end(); ++at) {
    const StepEntry& entry = *at;
    const auto same = [&](const StepEntry& other) { return other.seq == entry.seq; };
    if (std::any_of(batch.entries.begin(), at, same)) {
      return InvalidArgument(Str("step has two entries of one sequence:", Kv("step", batch.step),
                                 Kv("seq", entry.seq)));
    }
    const bool is_released =
        std::find(batch.released.begin(), batch.released.end(), entry.seq) != batch.released.end();
    TC_RETURN_IF_ERROR(CheckEntry(entry, is_released));
  }
  return OkStatus();
}

Status Stage::CheckEntry(const StepEntry& entry, bool is_released) const {
  const auto known = is_released ? sequences_.end() : sequences_.find(entry.seq);
  const bool begins = entry.first_position == 0;
  if (entry.tokens.empty() || begins != entry.start.has_value()) {
    return InvalidArgument(Str("step entry without tokens, or started elsewhere than at 0:",
                               Kv("seq", entry.seq), Kv("position", entry.first_position)));
  }
  const int64_t expected =
      begins ? 0 : (known == sequences_.end() ? -1 : known->second.n_positions);
  if (entry.first_position != expected) {
    return InvalidArgument(
        Str("step entry does not follow the sequence's kv:", Kv("seq", entry.seq),
            Kv("position", entry.first_position), Kv("expected", expected)));
  }
  const auto n_tokens = static_cast<int64_t>(entry.tokens.size());
  TC_RETURN_IF_ERROR(model::CheckContext(config_, entry.first_position + n_tokens));
  for (const int32_t token : entry.tokens) {
    if (token < 0 || token >= config_.n_vocab) {
      return InvalidArgument(Str("token outside the vocabulary:", Kv("seq", entry.seq),
                                 Kv("token", token), Kv("n_vocab", config_.n_vocab)));
    }
  }
  return OkStatus();
}

void Stage::ReleaseSequences(const std::vector<SeqId>& released) {
  for (const SeqId seq : released) {
    const auto found = sequences_.find(seq);
    if (found == sequences_.end()) continue;
    kv_.Release(&found->second.page_ids);
    sequences_.erase(found);
  }
}

Status Stage::PlaceRows(const StepBatch& step, Batch* batch) {
  batch->tokens.clear();
  batch->positions.clear();
  batch->rows.clear();
  for (const StepEntry& entry : step.entries) {
    Sequence& sequence = sequences_[entry.seq];
    if (entry.start.has_value()) {
      kv_.Release(&sequence.page_ids);
      sequence = Sequence{};
      Start(*entry.start, &sequence);
      // Of batches under way the pages are borrowed, so the list must not move as it grows.
      kv_.MakeRoom(std::max(config_.n_ctx_train, options_.n_ctx), &sequence.page_ids);
    }
    const auto n_tokens = static_cast<int64_t>(entry.tokens.size());
    TC_RETURN_IF_ERROR(kv_.Reserve(entry.first_position + n_tokens, &sequence.page_ids));
    batch->rows.push_back({static_cast<int>(batch->tokens.size()), static_cast<int>(n_tokens),
                           entry.first_position, sequence.page_ids});
    for (int64_t i = 0; i < n_tokens; ++i) {
      batch->tokens.push_back(entry.tokens[static_cast<size_t>(i)]);
      batch->positions.push_back(entry.first_position + i);
    }
    sequence.n_positions += n_tokens;
  }
  return OkStatus();
}

void Stage::Start(const proto::SequenceStart& start, Sequence* sequence) {
  sequence->params = start.params;
  sequence->n_prompt = start.n_prompt;
  sequence->min_tokens = start.min_tokens;
  if (start.min_tokens == 0) return;
  sequence->params_before_end = start.params;
  auto& banned = sequence->params_before_end.banned_ids;
  banned.insert(banned.end(), start.end_ids.begin(), start.end_ids.end());
}

// ---- Batches under way

bool Stage::IsUnderWay(SeqId seq) const {
  return std::any_of(by_age_.begin(), by_age_.end(), [&](const Batch* batch) {
    const auto& entries = batch->step->entries;
    return std::any_of(entries.begin(), entries.end(),
                       [&](const StepEntry& entry) { return entry.seq == seq; });
  });
}

bool Stage::CanBegin(const StepBatch& batch) const {
  if (by_age_.empty()) return true;
  if (by_age_.size() == batches_.size()) return false;
  const int64_t n_tokens = batch.n_tokens();
  if (n_tokens > 0 && !executor_->HasRoom(n_tokens)) return false;
  for (const SeqId seq : batch.released) {
    if (IsUnderWay(seq)) return false;
  }
  for (const StepEntry& entry : batch.entries) {
    if (entry.start.has_value() && IsUnderWay(entry.seq)) return false;
  }
  return true;
}

Stage::Batch* Stage::FreeBatch() {
  Batch* batch = batches_.data();
  while (std::find(by_age_.begin(), by_age_.end(), batch) != by_age_.end()) ++batch;
  return batch;
}

Status Stage::Begin(const StepBatch& step, TensorView input) {
  TC_RETURN_IF_ERROR(Check(step, input));
  ReleaseSequences(step.released);
  Batch* batch = FreeBatch();
  TC_RETURN_IF_ERROR(PlaceRows(step, batch));
  batch->step = &step;
  batch->run = kNoRun;
  batch->passed_embed = false;
  batch->passed_layers = batch->tokens.empty();
  by_age_.push_back(batch);
  if (!batch->tokens.empty()) StartRun(input, batch);
  return OkStatus();
}

void Stage::StartRun(TensorView input, Batch* batch) {
  batch->run = executor_->Open({batch->tokens, batch->positions, batch->rows}, batch->n_rows(),
                               batch->step->step);
  if (!embed_ && !input.empty()) executor_->SetInput(batch->run, input);
  layers_->Choose(batch->run, *executor_);
  batch->may_replay = graphs_ != nullptr && is_alone();
  if (batch->may_replay) return;
  if (graphs_ != nullptr && graphs_->TakesSpans(batch->run)) {
    executor_->TakeSpans(batch->run, graphs_.get());
  }
  StartPrograms(*batch);
}

void Stage::StartPrograms(const Batch& batch) {
  if (embed_) return executor_->Start(batch.run, *embed_, nullptr);
  layers_->Begin(batch.run, executor_.get(), &kv_);
}

// Not before the input has come, where others put it into its place.
Status Stage::TryReplay(Batch* batch) {
  batch->may_replay = false;
  TC_ASSIGN_OR_RETURN(const bool is_replayed, graphs_->Replay(batch->run));
  is_replayed ? OnLayersDone(batch) : StartPrograms(*batch);
  return OkStatus();
}

Result<bool> Stage::Advance() {
  while (!by_age_.empty()) {
    if (by_age_.front()->passed_layers) {
      TC_RETURN_IF_ERROR(EndBatch(*by_age_.front()));
      return true;
    }
    if (by_age_.front()->may_replay) {
      TC_RETURN_IF_ERROR(TryReplay(by_age_.front()));
      continue;
    }
    TC_ASSIGN_OR_RETURN(const int run, executor_->Advance());
    if (run == kNoRun) return false;
    OnProgramDone(run);
  }
  return false;
}

void Stage::OnProgramDone(int run) {
  Batch& batch = **std::find_if(by_age_.begin(), by_age_.end(),
                                [&](const Batch* other) { return other->run == run; });
  if (embed_ && !batch.passed_embed) {
    batch.passed_embed = true;
    return layers_->Begin(run, executor_.get(), &kv_);
  }
  if (!layers_->Next(run, executor_.get(), &kv_)) OnLayersDone(&batch);
}

void Stage::OnLayersDone(Batch* batch) {
  batch->passed_layers = true;
  if (is_last()) return;
  staying_rows_.Has(batch->n_rows()) ? executor_->MarkEnd(batch->run)
                                     : executor_->StartFetch(batch->run);
}

Status Stage::EndBatch(const Batch& batch) {
  results_.clear();
  activation_ = TensorView::F32(nullptr, 0, config_.n_embd);
  if (batch.run == kNoRun) return OkStatus();
  if (!is_last() && staying_rows_.Has(batch.n_rows())) {
    activation_ = executor_->Input(batch.run);
    return executor_->AwaitEnd(batch.run);
  }
  if (!is_last()) {
    TC_ASSIGN_OR_RETURN(activation_, executor_->FetchInput(batch.run));
    return OkStatus();
  }
  activation_ = executor_->Input(batch.run);
  TC_RETURN_IF_ERROR(RunHead(*batch.step));
  // Who fetches logits waits. Where nobody wants any, the input's place is free only now.
  const bool waits = executor_->is_apart() && logits_rows_.empty();
  return waits ? device_.Synchronize() : OkStatus();
}

void Stage::Finish() {
  if (by_age_.front()->run != kNoRun) executor_->Close();
  by_age_.erase(by_age_.begin());
}

Status Stage::Run(const StepBatch& batch, TensorView input) {
  TC_RETURN_IF_ERROR(Begin(batch, input));
  while (true) {
    TC_ASSIGN_OR_RETURN(const bool done, Advance());
    if (done) break;
    TC_ASSIGN_OR_RETURN(const bool waited, executor_->AwaitSend());
    if (!waited) return Internal("a step waits for helpers while nobody receives");
  }
  Finish();
  return OkStatus();
}

// ---- The head

Status Stage::RunHead(const StepBatch& batch) {
  results_.resize(batch.entries.size());
  CollectLogitsRows(batch);
  for (size_t i = 0; i < batch.entries.size(); ++i) {
    const StepEntry& entry = batch.entries[i];
    Sequence& sequence = sequences_[entry.seq];
    results_[i].seq = entry.seq;
    ScoreChunkStart(entry, &sequence, &results_[i]);
    Remember(entry, &sequence);
  }
  const auto rows = std::span<const LogitsRow>(logits_rows_);
  for (size_t at = 0; at < rows.size(); at += kLogitsBlockRows) {
    TC_RETURN_IF_ERROR(RunHeadBlock(
        batch, rows.subspan(at, std::min<size_t>(kLogitsBlockRows, rows.size() - at))));
  }
  return OkStatus();
}

// The penalties see every token up to the one being chosen.
void Stage::Remember(const StepEntry& entry, Sequence* sequence) {
  if (!sequence->params.has_penalties()) return;
  int64_t position = entry.first_position;
  for (const int32_t token : entry.tokens) {
    auto& counts = position < sequence->n_prompt ? sequence->history.prompt_counts
                                                 : sequence->history.generated_counts;
    ++counts[token];
    ++position;
  }
}

void Stage::CollectLogitsRows(const StepBatch& batch) {
  logits_rows_.clear();
  int first_row = 0;
  for (size_t e = 0; e < batch.entries.size(); ++e) {
    const StepEntry& entry = batch.entries[e];
    const Sequence& sequence = sequences_[entry.seq];
    const auto n_tokens = static_cast<int>(entry.tokens.size());
    for (int i = 0; i < n_tokens; ++i) {
      const int64_t position = entry.first_position + i;
      const bool sampled = entry.sample && i == n_tokens - 1;
      const bool scored =
          sequence.params.n_prompt_logprobs >= 0 && position + 1 < sequence.n_prompt;
      if (sampled || scored || logits_sink_ != nullptr) {
        logits_rows_.push_back({first_row + i, static_cast<int>(e), position});
      }
    }
    first_row += n_tokens;
  }
}

const model::SamplingParams& Stage::ParamsAt(const Sequence& sequence, int64_t position) {
  const bool may_end = position + 1 - sequence.n_prompt >= sequence.min_tokens;
  return may_end ? sequence.params : sequence.params_before_end;
}

// Where logits lie apart from the host, a few of them come instead of a vocabulary.
int Stage::BestWanted(const StepBatch& batch, std::span<const LogitsRow> rows) const {
  if (!head_->is_apart() || logits_sink_ != nullptr) return 0;
  int most = 0;
  for (const LogitsRow& row : rows) {
    const StepEntry& entry = batch.entries[static_cast<size_t>(row.entry)];
    const Sequence& sequence = sequences_.at(entry.seq);
    if (sequence.params.n_prompt_logprobs >= 0) return 0;
    const int n = model::Sampler::BestNeeded(ParamsAt(sequence, row.position));
    if (n == 0 || n > std::min(kernels::kMaxBest, config_.n_vocab)) return 0;
    most = std::max(most, n);
  }
  return most;
}

void Stage::SampleBest(const StepBatch& batch, std::span<const LogitsRow> rows, TensorView best) {
  for (size_t i = 0; i < rows.size(); ++i) {
    const LogitsRow& row = rows[i];
    const auto entry = static_cast<size_t>(row.entry);
    const float* const pairs = best.f32_row(static_cast<int64_t>(i));
    best_.clear();
    for (int64_t c = 0; c < best.n_cols; c += 2) {
      best_.push_back({pairs[c], std::bit_cast<int32_t>(pairs[c + 1])});
    }
    const Sequence& sequence = sequences_.at(batch.entries[entry].seq);
    results_[entry].sampled = sampler_.SampleBest(best_, ParamsAt(sequence, row.position),
                                                  static_cast<uint64_t>(row.position) + 1);
  }
}

Status Stage::RunHeadBlock(const StepBatch& batch, std::span<const LogitsRow> rows) {
  block_rows_.clear();
  for (const LogitsRow& row : rows) block_rows_.push_back(row.row);
  if (const int n_best = BestWanted(batch, rows); n_best > 0) {
    TC_ASSIGN_OR_RETURN(const TensorView best,
                        head_->Best(activation_, block_rows_, n_best, batch.step));
    SampleBest(batch, rows, best);
    return OkStatus();
  }
  TC_ASSIGN_OR_RETURN(const TensorView logits, head_->Logits(activation_, block_rows_, batch.step));
  UseBlock(batch, rows, logits);
  return OkStatus();
}

void Stage::UseBlock(const StepBatch& batch, std::span<const LogitsRow> rows, TensorView logits) {
  Tracer* const tracer = options_.tracer;
  const TimePoint begin = tracer == nullptr ? TimePoint{} : tracer->Now();
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto entry = static_cast<size_t>(rows[i].entry);
    UseLogits(batch.entries[entry], rows[i],
              {logits.f32_row(static_cast<int64_t>(i)), static_cast<size_t>(config_.n_vocab)},
              &results_[entry]);
  }
  if (tracer == nullptr) return;
  tracer->Add({.name = tracer->Name("sample"),
               .track = tracer->Track(kDeviceTrack),
               .step = batch.step,
               .n_rows = logits.n_rows},
              begin, tracer->Now());
}

void Stage::UseLogits(const StepEntry& entry, const LogitsRow& row, std::span<const float> logits,
                      StepResultEntry* result) {
  Sequence& sequence = sequences_[entry.seq];
  if (logits_sink_ != nullptr) logits_sink_->OnLogits(entry.seq, row.position, logits);
  const int64_t last = entry.first_position + static_cast<int64_t>(entry.tokens.size()) - 1;
  ScorePrompt(entry, row.position, logits, &sequence, result);
  if (entry.sample && row.position == last) {
    result->sampled = sampler_.Sample(logits, ParamsAt(sequence, last), sequence.history,
                                      static_cast<uint64_t>(last) + 1);
  }
}

// The first token of a chunk is scored by the logits that the chunk before it left behind.
void Stage::ScoreChunkStart(const StepEntry& entry, Sequence* sequence, StepResultEntry* result) {
  if (sequence->chunk_end_logits.empty()) return;
  result->prompt_scores.push_back(sampler_.Score(sequence->chunk_end_logits, entry.tokens.front(),
                                                 sequence->params.n_prompt_logprobs));
  sequence->chunk_end_logits.clear();
}

// Logits after position p score the prompt's token p + 1.
void Stage::ScorePrompt(const StepEntry& entry, int64_t position, std::span<const float> logits,
                        Sequence* sequence, StepResultEntry* result) {
  const int n_top = sequence->params.n_prompt_logprobs;
  if (n_top < 0) return;
  if (position + 1 >= sequence->n_prompt) return;
  const auto next = static_cast<size_t>(position + 1 - entry.first_position);
  if (next < entry.tokens.size()) {
    result->prompt_scores.push_back(sampler_.Score(logits, entry.tokens[next], n_top));
  } else {
    sequence->chunk_end_logits.assign(logits.begin(), logits.end());
  }
}

}  // namespace thermocline::worker
