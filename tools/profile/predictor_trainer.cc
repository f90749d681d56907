#include "tools/profile/predictor_trainer.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/rng.h"

namespace thermocline::tools {
namespace {

// Adam's decay rates as its authors recommend; epsilon only guards a division.
constexpr float kBeta1 = 0.9f, kBeta2 = 0.999f, kEpsilon = 1e-8f;
// Elements that a thread takes at a time: some microseconds of work.
constexpr int64_t kChunk = 8192;

// Calls fn(begin, end) for chunks of [0, n).
template <typename Fn>
void ForElements(ThreadPool& pool, int64_t n, const Fn& fn) {
  pool.ParallelFor((n + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    fn(chunk * kChunk, std::min(n, (chunk + 1) * kChunk));
  });
}

// With `n_active` of `n` pairs active: how much one of them weighs. The root of the odds lies
// between counting errors alike, which forgets rare neurons, and balancing the classes, which
// predicts too many; recall is set by the threshold afterwards.
float PositiveWeight(uint64_t n_active, uint64_t n) {
  if (n_active == 0 || n_active >= n) return 1;
  return static_cast<float>(
      std::sqrt(static_cast<double>(n - n_active) / static_cast<double>(n_active)));
}

}  // namespace

PredictorTrainer::PredictorTrainer(TrainingDevice device, const LayerSamples& samples,
                                   SampleRange range, const TrainerOptions& options)
    : device_(device), samples_(samples), range_(range), options_(options) {
  uint64_t n_active = 0;
  for (int64_t t = range.begin; t < range.end; ++t) {
    for (const uint64_t word : samples.active.mask(static_cast<size_t>(t))) {
      n_active += static_cast<uint64_t>(std::popcount(word));
    }
  }
  const auto n_pairs = static_cast<uint64_t>((range.end - range.begin) * samples.active.n_ff());
  positive_weight_ = PositiveWeight(n_active, n_pairs);
}

// Sums of twelve uniform numbers, less 6, are nearly normal with deviation 1; three are enough
// here.
void PredictorTrainer::FillRandom(float deviation, std::span<float> values) {
  const float scale = deviation * 2;  // a sum of three uniforms has deviation 1/2
  for (float& v : values) {
    double sum = -1.5;
    for (int i = 0; i < 3; ++i) sum += UniformAt(options_.seed, random_position_++);
    v = static_cast<float>(sum) * scale;
  }
}

// Deviations that keep the size of scores near 1 (He et al. 2015).
void PredictorTrainer::Start(int64_t hidden) {
  network_.fc1 = Matrix(hidden, samples_.n_embd);
  network_.fc2 = Matrix(samples_.active.n_ff(), hidden);
  FillRandom(std::sqrt(2.0f / static_cast<float>(samples_.n_embd)), network_.fc1.data);
  FillRandom(std::sqrt(1.0f / static_cast<float>(hidden)), network_.fc2.data);
  ResetMoments();
}

void PredictorTrainer::Resize(int64_t hidden) {
  const int64_t old = network_.hidden();
  std::vector<double> importance(static_cast<size_t>(old), 0);
  for (int64_t i = 0; i < network_.fc2.rows; ++i) {
    for (int64_t u = 0; u < old; ++u) {
      const double w = network_.fc2.row(i)[static_cast<size_t>(u)];
      importance[static_cast<size_t>(u)] += w * w;
    }
  }
  for (int64_t u = 0; u < old; ++u) {
    double norm = 0;
    for (const float w : network_.fc1.row(u)) norm += static_cast<double>(w) * w;
    importance[static_cast<size_t>(u)] *= norm;
  }
  std::vector<int64_t> units(static_cast<size_t>(old));
  std::iota(units.begin(), units.end(), int64_t{0});
  std::stable_sort(units.begin(), units.end(), [&](int64_t a, int64_t b) {
    return importance[static_cast<size_t>(a)] > importance[static_cast<size_t>(b)];
  });
  units.resize(static_cast<size_t>(std::min(old, hidden)));
  Matrix fc1(hidden, network_.fc1.cols), fc2(network_.fc2.rows, hidden);
  FillRandom(std::sqrt(2.0f / static_cast<float>(fc1.cols)), fc1.data);
  for (size_t u = 0; u < units.size(); ++u) {
    std::ranges::copy(network_.fc1.row(units[u]), fc1.row(static_cast<int64_t>(u)).begin());
    for (int64_t i = 0; i < fc2.rows; ++i) {
      fc2.row(i)[u] = network_.fc2.row(i)[static_cast<size_t>(units[u])];
    }
  }
  network_.fc1 = std::move(fc1);
  network_.fc2 = std::move(fc2);
  ResetMoments();
}

void PredictorTrainer::ResetMoments() {
  for (const auto& [weights, moments] :
       {std::pair{&network_.fc1, &fc1_moments_}, std::pair{&network_.fc2, &fc2_moments_}}) {
    moments->first.assign(weights->data.size(), 0);
    moments->second.assign(weights->data.size(), 0);
  }
  n_updates_ = 0;
}

void PredictorTrainer::Train(int n_steps, const std::function<bool()>& on_step) {
  for (int step = 0; step < n_steps; ++step) {
    const double way = static_cast<double>(step) / n_steps;
    // Not to 0, where the last steps would change nothing.
    const double rate = 0.02 + 0.98 * 0.5 * (1 + std::cos(std::numbers::pi * way));
    Step(options_.learning_rate * static_cast<float>(rate));
    if (!on_step()) return;
  }
}

void PredictorTrainer::FillBatch(Matrix* x, std::vector<int64_t>* tokens) {
  const auto n = static_cast<double>(range_.end - range_.begin);
  for (int64_t row = 0; row < x->rows; ++row) {
    const auto drawn = static_cast<int64_t>(UniformAt(options_.seed, random_position_++) * n);
    const int64_t token = std::min(range_.begin + drawn, range_.end - 1);
    tokens->push_back(token);
    std::copy_n(samples_.Rows(token, 1).f32_row(0), x->cols, x->row(row).data());
  }
}

// d loss / d score = weight (sigmoid(score) - active), averaged over the batch.
void PredictorTrainer::LossGradient(const std::vector<int64_t>& tokens, Matrix* scores) {
  const float scale = 1 / static_cast<float>(scores->rows);
  device_.pool.ParallelFor(scores->rows, [&](int64_t row, int) {
    const auto mask = samples_.active.mask(static_cast<size_t>(tokens[static_cast<size_t>(row)]));
    const std::span<float> values = scores->row(row);
    for (size_t i = 0; i < values.size(); ++i) {
      const bool active = ((mask[i / 64] >> (i % 64)) & 1) != 0;
      const float sigmoid = 1 / (1 + std::exp(-values[i]));
      values[i] = scale * (active ? positive_weight_ * (sigmoid - 1) : sigmoid);
    }
  });
}

void PredictorTrainer::Step(float rate) {
  kernels::Device& kernels = device_.kernels;
  Matrix x(std::min(options_.batch_tokens, range_.end - range_.begin), samples_.n_embd);
  std::vector<int64_t> tokens;
  FillBatch(&x, &tokens);

  Matrix hidden = Product(kernels, network_.fc1.view(), x.view());
  for (float& h : hidden.data) h = std::max(h, 0.0f);
  Matrix d_scores = Product(kernels, network_.fc2.view(), hidden.view());
  LossGradient(tokens, &d_scores);

  // fc2[n_ff, r]: d_scores^T hidden; hidden: d_scores fc2, where the unit was on; fc1: d_hidden^T
  // x.
  Matrix d_hidden = Product(kernels, Transposed(network_.fc2.view()).view(), d_scores.view());
  for (size_t i = 0; i < d_hidden.data.size(); ++i) {
    if (hidden.data[i] == 0) d_hidden.data[i] = 0;
  }
  const Matrix d_fc2 =
      Product(kernels, Transposed(hidden.view()).view(), Transposed(d_scores.view()).view());
  const Matrix d_fc1 =
      Product(kernels, Transposed(x.view()).view(), Transposed(d_hidden.view()).view());
  ++n_updates_;
  Update(d_fc1, rate, &network_.fc1, &fc1_moments_);
  Update(d_fc2, rate, &network_.fc2, &fc2_moments_);
}

void PredictorTrainer::Update(const Matrix& gradient, float rate, Matrix* weights,
                              Moments* moments) {
  const auto n = static_cast<float>(n_updates_);
  const float correction1 = 1 - std::pow(kBeta1, n), correction2 = 1 - std::pow(kBeta2, n);
  const float step = rate * std::sqrt(correction2) / correction1;
  const float* const g = gradient.data.data();
  float* const w = weights->data.data();
  float* const first = moments->first.data();
  float* const second = moments->second.data();
  const auto n_elems = static_cast<int64_t>(weights->data.size());
  ForElements(device_.pool, n_elems, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      first[i] = kBeta1 * first[i] + (1 - kBeta1) * g[i];
      second[i] = kBeta2 * second[i] + (1 - kBeta2) * g[i] * g[i];
      w[i] -= step * first[i] / (std::sqrt(second[i]) + kEpsilon);
    }
  });
}

}  // namespace thermocline::tools
