#include "tools/profile/train_predictors.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "tools/interrupt.h"
#include "tools/profile/lowrank_predictor.h"
#include "tools/profile/predictor_trainer.h"
#include "tools/profile/progress.h"

namespace thermocline::tools {
namespace {

using model::WeightRole;

// Fewer than this say little about 1 % of misses: a layer of 512 neurons at 10 % density has some
// 2500 active pairs in the tenth of them that judges.
constexpr int64_t kMinSamples = 500;

// What the predictor approximates: gate rows, or up rows in an FFN without gate, as F32.
Matrix PredictedRows(const worker::LoadedModel& model, int layer) {
  const WeightRole role = model.config.ffn_gated ? WeightRole::kFfnGate : WeightRole::kFfnUp;
  const model::TensorInfo& tensor = *model.weights.Find(role, layer);
  Matrix rows(tensor.n_rows(), tensor.n_cols());
  const uint64_t row_bytes = RowBytes(tensor.dtype, static_cast<uint64_t>(tensor.n_cols()));
  const std::byte* const data = model.reader->Mapping().data() + tensor.offset_bytes;
  for (int64_t i = 0; i < rows.rows; ++i) {
    kernels::DequantizeRow(tensor.dtype, data + static_cast<uint64_t>(i) * row_bytes, rows.cols,
                           rows.row(i).data());
  }
  return rows;
}

// One run over a model's layers; lives in TrainPredictors.
class Training {
 public:
  Training(const worker::LoadedModel& model, const std::vector<model::LayerActivity>& activity,
           const PredictorOptions& options, uint64_t n_tokens)
      : model_(model), activity_(activity), options_(options), n_tokens_(n_tokens) {}

  Result<TrainedPredictors> Run(const TextWindows& text) {
    TC_ASSIGN_OR_RETURN(device_, kernels::MakeCpuDevice({options_.n_threads}));
    TC_ASSIGN_OR_RETURN(pool_, ThreadPool::Create({options_.n_threads, "train", {}}));
    uint64_t ffn_bytes = 0;
    for (int i = 0; i < model_.config.n_layer; ++i) ffn_bytes += NeuronBytes(model_, i);
    budget_bytes_ = static_cast<uint64_t>(options_.budget_share * static_cast<double>(ffn_bytes));
    const int at_once = LayersAtOnce();
    for (int begin = 0; begin < model_.config.n_layer; begin += at_once) {
      const int end = std::min(model_.config.n_layer, begin + at_once);
      TC_ASSIGN_OR_RETURN(const auto samples,
                          CollectSamples(model_, text, begin, end, SampleOptionsOf()));
      for (int layer = begin; layer < end; ++layer) {
        TC_RETURN_IF_ERROR(MakeLayer(layer, samples[static_cast<size_t>(layer - begin)]));
      }
    }
    if (used_bytes_ > 0) return std::move(made_);
    return InvalidArgument(Str("the budget is too small for any predictor:",
                               Kv("budget_bytes", budget_bytes_), Kv("ffn_bytes", ffn_bytes)));
  }

 private:
  int LayersAtOnce() const {
    const uint64_t layer_bytes = n_tokens_ * LayerSamples::BytesPerToken(model_.config);
    return static_cast<int>(
        std::clamp<uint64_t>(options_.sample_bytes / std::max<uint64_t>(1, layer_bytes), 1,
                             static_cast<uint64_t>(model_.config.n_layer)));
  }

  SampleOptions SampleOptionsOf() const {
    SampleOptions samples;
    samples.n_threads = options_.n_threads;
    samples.window_tokens = options_.window_tokens;
    samples.quiet = options_.quiet;
    for (const model::LayerActivity& layer : activity_) {
      samples.active_thresholds.push_back(layer.active_threshold);
    }
    return samples;
  }

  Status MakeLayer(int layer, const LayerSamples& samples) {
    const model::LayerActivity& activity = activity_[static_cast<size_t>(layer)];
    SizingOptions sizing;
    sizing.recall = options_.recall;
    sizing.gini = model::Gini(activity.fired);
    sizing.neuron_bytes = NeuronBytes(model_, layer);
    // An even share of what the layers before have left.
    const int n_left = model_.config.n_layer - layer;
    sizing.max_bytes = (budget_bytes_ - used_bytes_) / static_cast<uint64_t>(n_left);
    const int64_t n = samples.n();
    const SampleRange training = {0, n * 8 / 10};
    const CalibrationRanges calibration = {{n * 8 / 10, n * 9 / 10}, {n * 9 / 10, n}};
    TC_RETURN_IF_ERROR(CheckInterrupted());
    TC_ASSIGN_OR_RETURN(const SizedPredictor sized,
                        options_.kind == model::PredictorKind::kLinear
                            ? CutLayer(layer, samples, training, calibration, sizing)
                            : TrainLayer(layer, samples, training, calibration, sizing));
    TC_RETURN_IF_ERROR(CheckInterrupted());
    used_bytes_ += sized.bytes;
    Keep(sized, sizing.neuron_bytes);
    return OkStatus();
  }

  double DensityOf(int layer) const {
    return model::Density(activity_[static_cast<size_t>(layer)].fired, n_tokens_);
  }

  Result<SizedPredictor> TrainLayer(int layer, const LayerSamples& samples, SampleRange training,
                                    const CalibrationRanges& calibration,
                                    const SizingOptions& sizing) {
    TrainerOptions options;
    options.seed = options_.seed + static_cast<uint64_t>(layer);
    PredictorTrainer trainer({*device_, *pool_}, samples, training, options);
    bool started = false;
    const auto make = [&](int64_t hidden) {
      const int n_steps = started ? options_.n_steps / 2 : options_.n_steps;
      started ? trainer.Resize(hidden) : trainer.Start(hidden);
      started = true;
      Progress progress(Str("layer ", layer, ": predictor of ", hidden), "steps",
                        static_cast<uint64_t>(n_steps), options_.quiet);
      trainer.Train(n_steps, [&] {
        progress.Advance(1);
        return InterruptSignal() == 0;
      });
      return trainer.predictor();
    };
    return ChooseSize(*device_, samples, calibration, sizing, DensityOf(layer), make);
  }

  Result<SizedPredictor> CutLayer(int layer, const LayerSamples& samples, SampleRange training,
                                  const CalibrationRanges& calibration, SizingOptions sizing) {
    const Matrix rows = PredictedRows(model_, layer);
    // More directions than that cost more than the rows themselves.
    sizing.max_hidden = samples.n_embd / 32 * 32;
    const uint64_t unit_bytes = PredictorBytes(samples.n_embd, rows.rows, 32, DType::kQ8_0);
    const auto affordable =
        static_cast<int64_t>(sizing.max_bytes / std::max<uint64_t>(1, unit_bytes)) * 32;
    const int64_t max_rank = std::min(sizing.max_hidden, affordable);
    if (max_rank == 0) return SizedPredictor();
    Progress progress(Str("layer ", layer, ": low rank"), "layers", 1, options_.quiet);
    auto made = LowRankPredictors::Create(*device_, rows.view(), samples, training, max_rank,
                                          options_.seed);
    if (!made.ok()) return made.status().WithContext(Str("layer ", layer));
    sizing.max_hidden = max_rank;
    progress.Advance(1);
    const auto make = [&](int64_t rank) { return made->OfRank(rank); };
    return ChooseSize(*device_, samples, calibration, sizing, DensityOf(layer), make);
  }

  void Keep(const SizedPredictor& sized, uint64_t neuron_bytes) {
    PredictorReport report;
    report.neuron_bytes = neuron_bytes;
    report.n_tried = sized.n_tried;
    StoredPredictor stored;
    if (sized.exists()) {
      report.hidden = sized.predictor.hidden();
      report.dtype = sized.dtype;
      report.bytes = sized.bytes;
      report.quality = sized.quality;
      stored = {options_.kind, sized.predictor, sized.dtype, sized.quality.threshold};
    }
    made_.stored.push_back(std::move(stored));
    made_.reports.push_back(report);
  }

  const worker::LoadedModel& model_;
  const std::vector<model::LayerActivity>& activity_;
  const PredictorOptions& options_;
  const uint64_t n_tokens_;
  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<ThreadPool> pool_;
  uint64_t budget_bytes_ = 0;
  uint64_t used_bytes_ = 0;
  TrainedPredictors made_;
};

}  // namespace

uint64_t NeuronBytes(const worker::LoadedModel& model, int layer) {
  uint64_t n_bytes = 0;
  for (const WeightRole role :
       {WeightRole::kFfnGate, WeightRole::kFfnUp, WeightRole::kFfnDown, WeightRole::kFfnDownT}) {
    const model::TensorInfo* tensor = model.weights.Find(role, layer);
    if (tensor != nullptr) n_bytes += tensor->size_bytes;
  }
  return n_bytes;
}

Result<TrainedPredictors> TrainPredictors(const worker::LoadedModel& model, const TextWindows& text,
                                          const std::vector<model::LayerActivity>& activity,
                                          const PredictorOptions& options) {
  const uint64_t n_tokens = text.n_tokens();
  if (n_tokens < kMinSamples) {
    return InvalidArgument(Str("text is too short to make predictors:", Kv("tokens", n_tokens),
                               Kv("needed", kMinSamples)));
  }
  return Training(model, activity, options, n_tokens).Run(text);
}

}  // namespace thermocline::tools
