#include "tools/synth/density_check.h"

#include <utility>

#include "base/rng.h"
#include "model/gguf.h"
#include "model/range_reader.h"
#include "model/weights.h"
#include "tools/generate/local_generator.h"
#include "tools/interrupt.h"
#include "tools/synth/layer_forward.h"
#include "worker/assignment.h"

namespace thermocline::tools {
namespace {

using model::WeightRole;

// Random tokens that the text begins with; they are not counted.
constexpr int64_t kPromptTokens = 4;
// Rows of a prefill step.
constexpr int kChunk = 256;

std::vector<int32_t> RandomPrompt(const SynthOptions& options) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < kPromptTokens; ++i) {
    const double u = UniformAt(options.seed + 1, static_cast<uint64_t>(i));
    prompt.push_back(static_cast<int32_t>(u * static_cast<double>(options.shape.n_vocab)));
  }
  return prompt;
}

// Prompt and sampled tokens.
Result<std::vector<int32_t>> SampleText(const std::string& path, const SynthOptions& options,
                                        int64_t n_tokens, int n_threads) {
  TC_ASSIGN_OR_RETURN(worker::LoadedModel model, worker::OpenModelInFileOrder(path));
  LocalOptions local;
  local.n_threads = n_threads;
  local.prefill_chunk = kChunk;
  TC_ASSIGN_OR_RETURN(LocalGenerator generator,
                      LocalGenerator::Load(std::move(model), kPromptTokens + n_tokens, local,
                                           worker::IgnoreProgress));
  model::SamplingParams params;
  params.temperature = 1;
  params.seed = options.seed;
  std::vector<int32_t> text = RandomPrompt(options);
  TC_ASSIGN_OR_RETURN(const Generation generation,
                      generator.Run(text, n_tokens, params, {}, [](int32_t) { return true; }));
  text.insert(text.end(), generation.generated.begin(), generation.generated.end());
  return text;
}

// A written model, mapped.
struct Weights {
  std::unique_ptr<model::RangeReader> reader;
  model::WeightIndex index;

  TensorView View(WeightRole role, int layer = model::kNoLayer) const {
    const model::TensorInfo* info = index.Find(role, layer);
    if (info == nullptr) return {};
    auto* data = const_cast<std::byte*>(reader->Mapping().data() + info->offset_bytes);
    return TensorView::Dense(data, info->dtype, info->n_rows(), info->n_cols());
  }
  LayerViews Layer(int i, const SynthOptions& options) const {
    LayerViews views;
    views.attn_norm = View(WeightRole::kAttnNorm, i);
    views.attn_q = View(WeightRole::kAttnQ, i);
    views.attn_k = View(WeightRole::kAttnK, i);
    views.attn_v = View(WeightRole::kAttnV, i);
    views.attn_output = View(WeightRole::kAttnOutput, i);
    views.ffn_norm = View(WeightRole::kFfnNorm, i);
    views.decide = View(options.gated() ? WeightRole::kFfnGate : WeightRole::kFfnUp, i);
    if (options.gated()) views.up = View(WeightRole::kFfnUp, i);
    views.down_by_neuron = options.powerinfer;
    views.down = View(options.powerinfer ? WeightRole::kFfnDownT : WeightRole::kFfnDown, i);
    views.fc1 = View(WeightRole::kPredictorFc1, i);
    views.fc2 = View(WeightRole::kPredictorFc2, i);
    return views;
  }
};

double Ratio(int64_t n, int64_t of) { return of > 0 ? double(n) / double(of) : 0; }

// Counts over the rows after the prompt. `logits` may be empty.
LayerDensity CountActive(TensorView z, TensorView logits) {
  int64_t n = 0, n_active = 0, n_predicted = 0, n_both = 0;
  for (int64_t t = kPromptTokens; t < z.n_rows; ++t) {
    for (int64_t i = 0; i < z.n_cols; ++i) {
      const bool active = z.f32_row(t)[i] > 0;
      const bool predicted = !logits.empty() && logits.f32_row(t)[i] >= 0;
      ++n;
      n_active += active;
      n_predicted += predicted;
      n_both += active && predicted;
    }
  }
  return {Ratio(n_active, n), Ratio(n_predicted, n), Ratio(n_both, n_active),
          Ratio(n_both, n_predicted)};
}

}  // namespace

Result<std::vector<LayerDensity>> MeasureDensity(const std::string& path,
                                                 const SynthOptions& options, int64_t n_tokens,
                                                 kernels::Device& device, int n_threads) {
  TC_ASSIGN_OR_RETURN(const std::vector<int32_t> text,
                      SampleText(path, options, n_tokens, n_threads));
  TC_ASSIGN_OR_RETURN(worker::LoadedModel loaded, worker::OpenModelInFileOrder(path));
  const Weights weights{std::move(loaded.reader), std::move(loaded.weights)};
  TC_ASSIGN_OR_RETURN(
      const auto forward,
      LayerForward::Create(options, {1, static_cast<int64_t>(text.size())}, device));
  forward->Embed(weights.View(WeightRole::kTokenEmbd), text);
  if (options.is_opt()) forward->AddPositions(weights.View(WeightRole::kPositionEmbd));
  std::vector<LayerDensity> densities;
  for (int i = 0; i < options.shape.n_layer; ++i) {
    TC_RETURN_IF_ERROR(CheckInterrupted());
    const LayerViews layer = weights.Layer(i, options);
    forward->Attend(layer);
    const TensorView z = forward->Decide(layer);
    densities.push_back(
        CountActive(z, options.powerinfer ? forward->Predict(layer) : TensorView{}));
    forward->Activate(layer);
    forward->AddDown(layer);
  }
  return densities;
}

}  // namespace thermocline::tools
