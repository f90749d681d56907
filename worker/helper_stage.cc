#include "worker/helper_stage.h"

#include <algorithm>
#include <utility>

#include "base/str.h"

namespace thermocline::worker {

Result<std::unique_ptr<HelperStage>> HelperStage::Create(const ModelSource& source,
                                                         const HelperOptions& options,
                                                         kernels::Device& device,
                                                         const LoadProgressFn& on_progress) {
  TC_RETURN_IF_ERROR(CheckModes(source, options.ffn.modes));
  const model::HeadShare& heads = options.ffn.heads;
  kernels::StepBounds bounds{.max_rows = options.max_step_tokens};
  if (heads.is_shared()) {
    bounds.max_pages = options.kv.n_pages;
    bounds.head_dim = source.config.head_dim;
  }
  TC_RETURN_IF_ERROR(device.Prepare(bounds));
  std::unique_ptr<HelperStage> stage(new HelperStage(options));
  TC_ASSIGN_OR_RETURN(stage->shard_, Shard::Load(source, options.layers, options.ffn, device,
                                                 on_progress, options.prior));
  if (heads.is_shared()) {
    const int n_layers = options.layers.end - options.layers.begin;
    TC_ASSIGN_OR_RETURN(
        stage->kv_, KvCache::Create(source.config, heads.own.size(), n_layers, options.kv, device));
    stage->is_named_.resize(static_cast<size_t>(options.kv.n_pages));
  }
  TC_ASSIGN_OR_RETURN(stage->layers_,
                      LayerStack::Lower(source, options.layers, options.ffn, stage->shard_));
  const ExecutorOptions scratch{
      .scratch_cols = std::max<int64_t>(stage->layers_->scratch_cols(), source.config.n_embd),
      .max_rows = options.max_step_tokens,
      .n_members = 2,  // the lead and this one
      .heads_cols = heads.is_shared() ? source.config.n_embd_q() : 0};
  TC_ASSIGN_OR_RETURN(stage->executor_, Executor::Create(source.config, device, scratch));
  stage->executor_->set_tracer(options.tracer, options.layers.begin);
  return stage;
}

bool HelperStage::Has(const proto::Part& part) const {
  const model::LayerRange& layers = options_.layers;
  if (part.layer < layers.begin || part.layer >= layers.end) return false;
  if (part.of_heads) return options_.ffn.heads.is_shared();
  return !options_.ffn.neurons[static_cast<size_t>(part.layer - layers.begin)].empty();
}

// Exactly the pages of its positions, each for this sequence alone: so a step has no more of them
// than there are, for which the device was prepared.
Status HelperStage::CheckPages(const proto::PartSequence& sequence) {
  const int64_t n_positions = sequence.first_position + sequence.n_tokens;
  const auto n_pages = static_cast<int64_t>(sequence.page_ids.size());
  const int64_t page_tokens = options_.kv.page_tokens;
  const auto is_there = [&](int32_t page) { return 0 <= page && page < options_.kv.n_pages; };
  const bool holds_it = sequence.first_position >= 0 && sequence.n_tokens > 0 &&
                        n_pages == (n_positions + page_tokens - 1) / page_tokens &&
                        std::all_of(sequence.page_ids.begin(), sequence.page_ids.end(), is_there);
  if (!holds_it) {
    return DataLoss(
        Str("the lead tells of pages that do not hold a sequence:", Kv("positions", n_positions),
            Kv("pages", n_pages), Kv("n_pages", options_.kv.n_pages)));
  }
  for (const int32_t page : sequence.page_ids) {
    const auto at = static_cast<size_t>(page);
    if (is_named_[at]) {
      return DataLoss(Str("the lead tells of a page twice in a step:", Kv("page", page)));
    }
    is_named_[at] = true;
  }
  return OkStatus();
}

// Pages are this worker's memory, so that nothing is taken on trust.
Status HelperStage::Check(const proto::Part& part) {
  is_named_.assign(is_named_.size(), false);
  int64_t n_rows = 0;
  for (const proto::PartSequence& sequence : part.sequences) {
    TC_RETURN_IF_ERROR(CheckPages(sequence));
    n_rows += sequence.n_tokens;
  }
  if (n_rows == part.n_rows) return OkStatus();
  return DataLoss(Str("the lead tells of other rows than it sends:", Kv("told", n_rows),
                      Kv("rows", part.n_rows)));
}

Result<HelperStage::Rows*> HelperStage::RowsOf(proto::Part* part) {
  const auto find = [&](auto matches) {
    const auto found = std::find_if(rows_.begin(), rows_.end(), matches);
    return found == rows_.end() ? nullptr : &*found;
  };
  const auto bad = [&](const char* what) {
    return DataLoss(Str(what, Kv("step", part->step), Kv("layer", part->layer)));
  };
  Rows* const known = find([&](const Rows& own) { return own.is_used && own.step == part->step; });
  if (part->sequences.empty()) {
    if (known == nullptr) return bad("the lead has not told the rows of a step:");
    return known;
  }
  if (known != nullptr) return bad("the lead tells the rows of a step twice:");
  Rows* const rows = find([](const Rows& own) { return !own.is_used; });
  if (rows == nullptr) return bad("the lead has more steps under way than a stage may:");
  TC_RETURN_IF_ERROR(Check(*part));
  rows->is_used = true;
  rows->step = part->step;
  rows->told = std::move(part->sequences);
  rows->positions.clear();
  rows->sequences.clear();
  for (const proto::PartSequence& sequence : rows->told) {
    rows->sequences.push_back({static_cast<int>(rows->positions.size()),
                               static_cast<int>(sequence.n_tokens), sequence.first_position,
                               sequence.page_ids});
    for (int64_t i = 0; i < sequence.n_tokens; ++i) {
      rows->positions.push_back(sequence.first_position + i);
    }
  }
  return rows;
}

Status HelperStage::Run(proto::Part part, PartExchange* exchange) {
  const int at = part.layer - options_.layers.begin;
  if (!Has(part) || part.n_rows < 1 || part.n_rows > options_.max_step_tokens) {
    return DataLoss(
        Str("the lead asks for what this helper does not have:", Kv("layer", part.layer),
            Kv("rows", part.n_rows), Kv("max_rows", options_.max_step_tokens)));
  }
  executor_->set_exchange(exchange);
  if (part.of_heads) return RunHeads(&part, at);
  const int run = executor_->Open(BatchRows{}, part.n_rows, part.step);
  TC_RETURN_IF_ERROR(layers_->RunLayer(at, run, executor_.get()));
  executor_->Close();
  return OkStatus();
}

Status HelperStage::RunHeads(proto::Part* part, int at) {
  TC_ASSIGN_OR_RETURN(Rows* const rows, RowsOf(part));
  if (static_cast<int64_t>(rows->positions.size()) != part->n_rows) {
    return DataLoss(Str("the lead sends other rows than it told:",
                        Kv("told", rows->positions.size()), Kv("rows", part->n_rows)));
  }
  const int run = executor_->Open({{}, rows->positions, rows->sequences}, part->n_rows, part->step);
  TC_RETURN_IF_ERROR(layers_->RunHeads(at, run, executor_.get(), &*kv_));
  executor_->Close();
  if (part->layer + 1 == options_.layers.end) rows->is_used = false;
  return OkStatus();
}

}  // namespace thermocline::worker
