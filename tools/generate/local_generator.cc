#include "tools/generate/local_generator.h"

#include <algorithm>
#include <utility>

#include "base/cpu_list.h"

namespace thermocline::tools {
namespace {

constexpr SeqId kTheSequence{0};

bool Contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Result<LocalGenerator> LocalGenerator::Load(worker::LoadedModel model, int64_t n_positions,
                                            const LocalOptions& options,
                                            const worker::LoadProgressFn& on_progress) {
  LocalGenerator generator;
  const TimePoint begin = generator.clock_.Now();
  generator.options_ = options;
  generator.model_ = std::make_unique<worker::LoadedModel>(std::move(model));
  LocalStageOptions stage;
  stage.device = options.device;
  stage.n_threads = options.n_threads;
  stage.cpus = options.cpus;
  stage.ffn = options.ffn;
  stage.kv.dtype = options.kv_dtype;
  stage.kv.n_pages = PagesFor(1, n_positions, stage.kv.page_tokens);
  stage.max_step_tokens = options.prefill_chunk;
  stage.logits_path = options.logits_path;
  stage.uses_graphs = options.uses_graphs;
  TC_ASSIGN_OR_RETURN(generator.stage_, LocalStage::Load(*generator.model_, stage, on_progress));
  TC_RETURN_IF_ERROR(RunOn(FirstOf(options.cpus)));
  generator.load_s_ = Seconds(generator.clock_.Now() - begin);
  return generator;
}

Result<std::optional<int32_t>> LocalGenerator::Step(std::vector<int32_t> tokens,
                                                    int64_t first_position, bool sample,
                                                    std::optional<proto::SequenceStart> start) {
  proto::StepBatch batch;
  batch.step = StepId{next_step_++};
  batch.entries.push_back(
      {kTheSequence, first_position, std::move(tokens), sample, std::move(start)});
  TC_RETURN_IF_ERROR(stage_->Run(batch));
  const auto& sampled = stage_->results().front().sampled;
  return sampled ? std::optional<int32_t>(sampled->token) : std::nullopt;
}

Result<int32_t> LocalGenerator::ReadPrompt(const std::vector<int32_t>& prompt,
                                           const model::SamplingParams& params) {
  const auto chunk = static_cast<size_t>(options_.prefill_chunk);
  for (size_t at = 0;; at += chunk) {
    const size_t end = std::min(prompt.size(), at + chunk);
    const bool last = end == prompt.size();
    std::optional<proto::SequenceStart> start;
    if (at == 0) start = proto::SequenceStart{params, static_cast<int32_t>(prompt.size())};
    TC_ASSIGN_OR_RETURN(const auto token, Step({prompt.begin() + static_cast<std::ptrdiff_t>(at),
                                                prompt.begin() + static_cast<std::ptrdiff_t>(end)},
                                               static_cast<int64_t>(at), last, std::move(start)));
    if (last) return *token;
  }
}

Result<Generation> LocalGenerator::Run(const std::vector<int32_t>& prompt, int64_t n_predict,
                                       const model::SamplingParams& params,
                                       const std::vector<int32_t>& end_ids,
                                       const TokenFn& on_token) {
  Generation result;
  result.load_s = load_s_;
  const TimePoint begin = clock_.Now();
  TC_ASSIGN_OR_RETURN(int32_t token, ReadPrompt(prompt, params));
  const TimePoint read = clock_.Now();
  result.prompt_s = Seconds(read - begin);
  const kernels::Traffic before = stage_->traffic();
  auto position = static_cast<int64_t>(prompt.size());
  while (static_cast<int64_t>(result.generated.size()) < n_predict) {
    result.generated.push_back(token);
    const bool goes_on = on_token(token);
    result.ended = !goes_on || Contains(end_ids, token);
    const bool last = result.ended || static_cast<int64_t>(result.generated.size()) == n_predict;
    if (last && !stage_->keeps_logits()) break;
    TC_ASSIGN_OR_RETURN(const auto next, Step({token}, position++, !last, std::nullopt));
    if (last) break;
    token = *next;
  }
  result.generate_s = Seconds(clock_.Now() - read);
  result.decode_traffic = stage_->traffic() - before;
  return result;
}

}  // namespace thermocline::tools
