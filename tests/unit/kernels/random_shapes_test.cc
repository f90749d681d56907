// The products with rows of weights, against the reference on shapes drawn by seed: rows that end
// within a vector or a unit, few and many neurons, batches of 1 to 9, every mask.
#include <gtest/gtest.h>

#include <algorithm>

#include "instruction_sets.h"
#include "op_testing.h"

namespace thermocline::kernels {
namespace {

constexpr uint32_t kSeeds = 24;

// A size of a layer: every other one is awkward on purpose.
int64_t DrawSize(std::mt19937& random, std::initializer_list<int64_t> awkward, int64_t largest) {
  if (random() % 2 == 0) return awkward.begin()[random() % awkward.size()];
  return 1 + random() % largest;
}

// The shape of one seed, and its random tensors one after the other.
struct Draw {
  std::mt19937 random;
  int64_t n_embd, n_ff, n_tokens;
  int n_threads;

  explicit Draw(uint32_t seed)
      : random(seed),
        n_embd(DrawSize(random, {33, 77, 301, 32, 256}, 700)),
        n_ff(DrawSize(random, {67, 131, 1, 64}, 140)),
        n_tokens(1 + random() % 9),
        n_threads(static_cast<int>(1 + random() % 3)) {}

  bool Coin() { return random() % 2 == 0; }
  // A row as long as n_embd, or where blocks do not allow that, the next longer one.
  int64_t RowOf(DType dtype) const {
    const int64_t block = Traits(dtype).block_elems;
    return (n_embd + block - 1) / block * block;
  }
  Tensor Weights(DType dtype, int64_t n_rows) {
    const auto seed = static_cast<uint32_t>(random());
    return RandomWeights(dtype, n_rows, RowOf(dtype), seed);
  }
  Tensor Activations(int64_t n_rows, int64_t n_cols) {
    return RandomActivations(n_rows, n_cols, static_cast<uint32_t>(random()));
  }
  // Zeros in `share` of a.
  Tensor Sparse(Tensor a, double share) {
    std::bernoulli_distribution is_zero(share);
    for (int64_t t = 0; t < a.view().n_rows; ++t) {
      for (int64_t i = 0; i < a.view().n_cols; ++i) {
        if (is_zero(random)) a.at(t, i) = 0;
      }
    }
    return a;
  }
  std::string Name(DType dtype) const {
    return std::string(DTypeName(dtype)) + " tokens=" + std::to_string(n_tokens) +
           " n_ff=" + std::to_string(n_ff) + " n_embd=" + std::to_string(RowOf(dtype)) +
           " threads=" + std::to_string(n_threads);
  }
};

// body(draw, dtype) for every type of weights on every seed; the first that fails is named.
template <typename Body>
void OnEachSeedAndType(Body body) {
  for (uint32_t seed = 1; seed <= kSeeds; ++seed) {
    for (const DType dtype : kWeightTypes) {
      Draw draw(seed);
      SCOPED_TRACE("seed=" + std::to_string(seed) + " " + draw.Name(dtype));
      body(draw, dtype);
      if (testing::Test::HasFailure()) return;
    }
  }
}

// Sum of |row i of w| |x[t]|.
double Norm(const Tensor& w, int64_t i, const Tensor& x, int64_t t) {
  const std::vector<float> row = w.Floats(i);
  double norm = 0;
  for (size_t c = 0; c < row.size(); ++c) {
    norm += std::abs(static_cast<double>(row[c]) * x.at(t, static_cast<int64_t>(c)));
  }
  return norm;
}

// What a sum of n products may be off by, relative to its norm: each product passes at most
// n / 8 + 8 roundings (two chains of at least four lanes, the lanes' own sum, the bias).
double DotError(int64_t n) { return (static_cast<double>(n) / 8 + 8) * kRounding; }

struct Ids {
  std::vector<int32_t> ids;
  int32_t n_active = 0;
  bool is_all = true;

  // Every neuron, or about a third of them, perhaps none.
  Ids(Draw& draw, int64_t n_ff) : is_all(draw.Coin()) {
    for (int32_t i = 0; i < n_ff; ++i) {
      if (is_all || draw.random() % 3 == 0) ids.push_back(i);
    }
    n_active = static_cast<int32_t>(ids.size());
    ids.resize(static_cast<size_t>(n_ff));
  }
  ActiveIds get() {
    if (is_all) return ActiveIds::All();
    return {ids.data(), &n_active, static_cast<int32_t>(ids.size())};
  }
  bool Has(int64_t i) const {
    return std::binary_search(ids.begin(), ids.begin() + n_active, static_cast<int32_t>(i));
  }
};

// The operands of Neurons. `needs_values` are the known activations or the scores of the mask.
struct NeuronCase {
  Tensor gate, up, gate_bias, up_bias, x, needs_values;
  bool is_gated, activates_up, has_bias, masks_by_activation, masks_by_score;
  Activation kind;
  Ids ids;

  NeuronCase(Draw& draw, DType dtype)
      : gate(draw.Weights(dtype, draw.n_ff)),
        up(draw.Weights(dtype, draw.n_ff)),
        gate_bias(draw.Activations(1, draw.n_ff)),
        up_bias(draw.Activations(1, draw.n_ff)),
        x(draw.Activations(draw.n_tokens, gate.view().n_cols)),
        needs_values(draw.Sparse(draw.Activations(draw.n_tokens, draw.n_ff), 0.7)),
        is_gated(draw.Coin()),
        activates_up(draw.Coin()),
        has_bias(draw.Coin()),
        masks_by_activation(is_gated && draw.Coin()),
        masks_by_score(!masks_by_activation && draw.Coin()),
        kind(draw.Coin() ? Activation::kRelu : Activation::kSilu),
        ids(draw, draw.n_ff) {
    if (!is_gated && draw.Coin()) kind = Activation::kReluSquared;
  }
  void Pack() { gate = gate.Packed(), up = up.Packed(); }

  NeuronNeeds needs() const {
    NeuronNeeds needs;
    if (masks_by_activation) needs.activations = needs_values.view();
    if (masks_by_score) needs.scores = needs_values.view(), needs.threshold = 0.3f;
    return needs;
  }
  Tensor Run(Device& device) {
    Tensor a = RandomActivations(x.view().n_rows, up.view().n_rows, 7);
    NeuronWeights weights = {.gate = {},
                             .gate_bias = {},
                             .up = up.view(),
                             .up_bias = has_bias ? up_bias.view() : TensorView{},
                             .activates_up = activates_up};
    if (is_gated) weights.gate = gate.view();
    if (is_gated && has_bias) weights.gate_bias = gate_bias.view();
    device.ops().Neurons(weights, kind, x.view(), ids.get(), needs(), a.view());
    return a;
  }
  // Of a product of two dot products, each off by its own rounding; or of a square.
  double Bound(int64_t t, int64_t i) const {
    if (!ids.Has(i)) return 0;
    double factor = 1 + Norm(up, i, x, t) + std::abs(up_bias.at(0, i));
    if (is_gated) factor = std::max(factor, 1 + Norm(gate, i, x, t) + std::abs(gate_bias.at(0, i)));
    if (masks_by_activation) {
      factor = std::max(factor, std::abs(static_cast<double>(needs_values.at(t, i))));
    }
    return 2 * DotError(x.view().n_cols) * factor * factor;
  }
};

TEST(RandomShapesTest, NeuronsAgreeWithTheReference) {
  const auto reference = MakeReferenceDevice();
  OnEachSeedAndType([&](Draw& draw, DType dtype) {
    NeuronCase in(draw, dtype);
    for (const bool is_packed : {false, true}) {
      if (is_packed && !HasLanes(dtype)) continue;
      const auto cpu = Cpu(draw.n_threads);
      NeuronCase run = in;
      if (is_packed) run.Pack();
      const Tensor expected = run.Run(*reference);
      std::vector<double> bounds;
      for (int64_t t = 0; t < draw.n_tokens; ++t) {
        for (int64_t i = 0; i < draw.n_ff; ++i) bounds.push_back(in.Bound(t, i));
      }
      OnEachInstructionSet([&] {
        ExpectNear(
            run.Run(*cpu), expected,
            [&](int64_t t, int64_t i) { return bounds[static_cast<size_t>(t * draw.n_ff + i)]; },
            is_packed ? "packed" : "as in files");
      });
    }
  });
}

TEST(RandomShapesTest, SumsOfRowsAgreeWithTheReference) {
  const auto reference = MakeReferenceDevice();
  OnEachSeedAndType([&](Draw& draw, DType dtype) {
    const Tensor file = draw.Weights(dtype, draw.n_ff);
    const Tensor a = draw.Sparse(draw.Activations(draw.n_tokens, draw.n_ff), 0.5);
    const Tensor bias = draw.Activations(1, file.view().n_cols);
    Ids ids(draw, draw.n_ff);
    const auto run = [&](Device& device, const Tensor& w) {
      Tensor y = RandomActivations(draw.n_tokens, w.view().n_cols, 99);
      device.ops().AxpyRows(w.view(), a.view(), ids.get(), bias.view(), y.view());
      return y;
    };
    std::vector<std::vector<float>> rows;
    for (int64_t i = 0; i < draw.n_ff; ++i) rows.push_back(file.Floats(i));
    // One chain of n_ff multiply-adds and the bias, each product passing two roundings a step.
    const auto bound = [&](int64_t t, int64_t c) {
      double norm = std::abs(bias.at(0, c));
      for (int64_t i = 0; i < draw.n_ff; ++i) {
        norm += std::abs(static_cast<double>(a.at(t, i)) *
                         rows[static_cast<size_t>(i)][static_cast<size_t>(c)]);
      }
      return static_cast<double>(2 * draw.n_ff + 2) * kRounding * norm;
    };
    const auto cpu = Cpu(draw.n_threads);
    const Tensor expected = run(*reference, file);
    OnEachInstructionSet([&] {
      ExpectNear(run(*cpu, file), expected, bound, "as in files");
      ExpectSameBits(run(*cpu, file.Packed()), run(*cpu, file), "packed");
    });
  });
}

TEST(RandomShapesTest, MatrixProductsAgreeWithTheReference) {
  const auto reference = MakeReferenceDevice();
  OnEachSeedAndType([&](Draw& draw, DType dtype) {
    const Tensor file = draw.Weights(dtype, draw.n_ff);
    const Tensor x = draw.Activations(draw.n_tokens, file.view().n_cols);
    const Tensor bias = draw.Coin() ? draw.Activations(1, draw.n_ff) : Tensor();
    const auto run = [&](Device& device, const Tensor& w) {
      Tensor y(DType::kF32, draw.n_tokens, draw.n_ff, 4);
      device.ops().MatMul(w.view(), x.view(), bias.view(), y.view());
      return y;
    };
    const auto bound = [&](int64_t t, int64_t i) {
      const double known = bias.view().empty() ? 0 : std::abs(bias.at(0, i));
      return DotError(file.view().n_cols) * (known + Norm(file, i, x, t) + 1e-30);
    };
    const auto cpu = Cpu(draw.n_threads);
    for (const Tensor& w : {file, file.Packed()}) {
      const Tensor expected = run(*reference, w);
      OnEachInstructionSet([&] { ExpectNear(run(*cpu, w), expected, bound, "product"); });
    }
  });
}

}  // namespace
}  // namespace thermocline::kernels
