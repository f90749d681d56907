// Trains a two-layer predictor on the samples of a layer.
//
// Loss: binary cross-entropy per (token, neuron), active ones weighted up. Optimiser: Adam (Kingma
// & Ba 2015, algorithm 1) with a rate that falls along a half cosine. The products run on a
// device's own kernels, whose sums have a fixed order: equal seeds give equal weights, whatever the
// number of threads, on machines with the same instruction set.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/thread_pool.h"
#include "tools/profile/predictor.h"

namespace thermocline::tools {

struct TrainerOptions {
  int n_steps = 1500;
  int64_t batch_tokens = 256;
  float learning_rate = 3e-3f;
  uint64_t seed = 1;
};

// What trains: kernels for products, a pool for loops over elements. Both outlive the trainer.
struct TrainingDevice {
  kernels::Device& kernels;
  ThreadPool& pool;
};

// Owns one network and its optimiser. One thread.
class PredictorTrainer {
 public:
  // Samples of `range` train; `samples` outlives the trainer.
  PredictorTrainer(TrainingDevice device, const LayerSamples& samples, SampleRange range,
                   const TrainerOptions& options);

  // A random network of `hidden` units.
  void Start(int64_t hidden);
  // Adds random units that change no score yet, or removes those that contribute least.
  void Resize(int64_t hidden);
  // `on_step` is called after each and ends the training when it returns false.
  void Train(int n_steps, const std::function<bool()>& on_step);

  const Predictor& predictor() const { return network_; }

 private:
  struct Moments {
    std::vector<float> first, second;
  };
  void Step(float rate);
  void FillBatch(Matrix* x, std::vector<int64_t>* tokens);
  // Turns scores into the derivative of the loss by them.
  void LossGradient(const std::vector<int64_t>& tokens, Matrix* scores);
  void Update(const Matrix& gradient, float rate, Matrix* weights, Moments* moments);
  void ResetMoments();
  void FillRandom(float deviation, std::span<float> values);

  TrainingDevice device_;
  const LayerSamples& samples_;
  const SampleRange range_;
  const TrainerOptions options_;
  float positive_weight_ = 1;
  Predictor network_;
  Moments fc1_moments_, fc2_moments_;
  int64_t n_updates_ = 0;         // since the moments were reset
  uint64_t random_position_ = 0;  // in the stream of options_.seed
};

}  // namespace thermocline::tools
