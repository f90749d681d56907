// A shard for another plan takes over what it can, and is the shard that a fresh load gives.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "base/str.h"
#include "tests/support/apart_device.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/assignment.h"
#include "worker/shard.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::LayerRange;
using model::NeuronRange;
using model::WeightKey;
using model::WeightRole;
using testing::TempFile;

constexpr int kLayers = 4;
constexpr int64_t kNeurons = 128;

FfnPlan Whole(model::FfnModes modes = FfnMode::kExact) { return {.modes = modes}; }
FfnPlan Share(int n_layers, NeuronRange neurons, bool is_helper = false) {
  FfnPlan ffn{.modes = FfnMode::kExact, .is_helper = is_helper};
  ffn.neurons.assign(static_cast<size_t>(n_layers), neurons);
  return ffn;
}

// On the host, and on a device with memory of its own.
class ShardTakeoverTest : public ::testing::TestWithParam<bool> {
 protected:
  void Open(const testing::TinyModelSpec& spec) {
    file_.emplace(testing::TinyModel(spec));
    model_ = OpenModel(file_->path()).value();
  }
  void Open(DType dtype = DType::kF32) {
    Open({.arch = "arcee", .n_layer = kLayers, .n_ff = int(kNeurons), .dtype = dtype});
  }
  void Shuffle(uint64_t seed) {
    std::mt19937_64 random(seed);
    model_.neuron_order.layers.assign(kLayers, std::vector<int32_t>(kNeurons));
    for (auto& layer : model_.neuron_order.layers) {
      std::iota(layer.begin(), layer.end(), 0);
      std::shuffle(layer.begin(), layer.end(), random);
    }
  }
  Shard Load(const LayerRange& layers, const FfnPlan& ffn, Shard* prior = nullptr) {
    auto shard = Shard::Load(model_.source(), layers, ffn, *device_, IgnoreProgress, prior);
    EXPECT_TRUE(shard.ok()) << shard.status();
    return std::move(shard).value();
  }
  std::vector<std::byte> BytesOf(const TensorView& view) {
    std::vector<std::byte> bytes(view.bytes());
    if (device_->reads_host_memory()) {
      std::memcpy(bytes.data(), view.data, bytes.size());
    } else {
      device_->CopyToHost(view.data, bytes.data(), bytes.size());
      EXPECT_TRUE(device_->Synchronize().ok());
    }
    return bytes;
  }
  void ExpectSameBytes(const TensorView& a, const TensorView& b, const std::string& name) {
    ASSERT_EQ(a.empty(), b.empty()) << name;
    ASSERT_EQ(a.n_rows, b.n_rows) << name;
    ASSERT_EQ(a.n_cols, b.n_cols) << name;
    ASSERT_EQ(a.layout, b.layout) << name;
    if (a.empty()) return;
    EXPECT_TRUE(BytesOf(a) == BytesOf(b)) << name;
  }
  // `taken` is, byte by byte, what is loaded without a prior shard.
  void ExpectFresh(const Shard& taken, const LayerRange& layers, const FfnPlan& ffn) {
    const Shard fresh = Load(layers, ffn);
    EXPECT_EQ(taken.report().owned_bytes, fresh.report().owned_bytes);
    EXPECT_EQ(taken.report().note, fresh.report().note);
    for (int layer = -1; layer < kLayers; ++layer) {
      for (int role = 0; role < model::kNumWeightRoles; ++role) {
        const WeightKey key = {layer, WeightRole(role)};
        ExpectSameBytes(taken.View(key), fresh.View(key), Str("layer ", layer, " role ", role));
      }
      EXPECT_TRUE(std::ranges::equal(taken.Places(layer), fresh.Places(layer))) << layer;
    }
  }
  uint64_t LayerBytes(int layer) const {
    return model_.weights.BytesOf({layer, layer + 1, false, false});
  }

  std::optional<TempFile> file_;
  LoadedModel model_;
  const std::unique_ptr<kernels::Device> device_ =
      GetParam() ? testing::MakeApartDevice()
                 : std::move(kernels::MakeCpuDevice({.n_threads = 1})).value();
};
INSTANTIATE_TEST_SUITE_P(Devices, ShardTakeoverTest, ::testing::Bool());

TEST_P(ShardTakeoverTest, TheSameAgainReadsNothing) {
  Open();
  const LayerRange all{0, kLayers, true, true};
  Shard first = Load(all, Whole());
  const TensorView before = first.View({1, WeightRole::kFfnUp});
  const Shard second = Load(all, Whole(), &first);
  EXPECT_EQ(second.report().read_bytes, 0u);
  EXPECT_EQ(second.View({1, WeightRole::kFfnUp}).data, before.data) << "moved, not copied";
  EXPECT_TRUE(first.View({1, WeightRole::kFfnUp}).empty());
  ExpectFresh(second, all, Whole());
}

TEST_P(ShardTakeoverTest, OnlyNewLayersAreRead) {
  Open(DType::kQ8_0);
  const LayerRange before{0, 3, true, false}, after{1, 4, false, true};
  Shard first = Load(before, Whole());
  const Shard second = Load(after, Whole(), &first);
  ExpectFresh(second, after, Whole());
  const Shard fresh = Load(after, Whole());
  EXPECT_GE(second.report().kept_bytes, LayerBytes(1) + LayerBytes(2));
  EXPECT_EQ(second.report().read_bytes, fresh.report().read_bytes - LayerBytes(1) - LayerBytes(2));
}

TEST_P(ShardTakeoverTest, OfSharedLayersOnlyNewRowsAreRead) {
  // ffn_down by neuron in the file, so that its rows can be read alone too.
  testing::TinyModelSpec spec{.n_layer = kLayers, .n_ff = int(kNeurons)};
  spec.dialect = testing::GgufDialect::kPowerInfer;
  Open(spec);
  const LayerRange all{0, kLayers, true, true};
  const auto up = *model_.weights.Find(WeightRole::kFfnUp, 0);
  const uint64_t row_bytes = up.size_bytes / uint64_t(kNeurons);
  Shard shard = Load(all, Share(kLayers, {0, 64}));
  const std::vector<NeuronRange> ranges = {{16, 96}, {32, 64}, {0, 128}, {127, 128}, {0, 80}};
  NeuronRange before{0, 64};
  for (const NeuronRange& range : ranges) {
    Shard next = Load(all, Share(kLayers, range), &shard);
    ExpectFresh(next, all, Share(kLayers, range));
    const int64_t stay =
        std::max<int64_t>(0, std::min(before.end, range.end) - std::max(before.begin, range.begin));
    const uint64_t n_new = uint64_t(range.size() - stay);
    // Gate, up and down of every layer.
    EXPECT_EQ(next.report().read_bytes, 3 * kLayers * n_new * row_bytes)
        << range.begin << "-" << range.end;
    shard = std::move(next);
    before = range;
  }
}

TEST_P(ShardTakeoverTest, AnotherOrderMovesRowsInMemory) {
  for (const DType dtype : {DType::kF16, DType::kQ4_0}) {
    Open(dtype);
    const LayerRange all{0, kLayers, true, true};
    Shuffle(1);
    Shard first = Load(all, Whole());
    Shuffle(2);
    const Shard second = Load(all, Whole(), &first);
    EXPECT_EQ(second.report().read_bytes, 0u);
    ExpectFresh(second, all, Whole());
  }
}

TEST_P(ShardTakeoverTest, FromAnyPlanToAnyOther) {
  std::mt19937_64 random(7);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  for (const DType dtype : {DType::kF32, DType::kQ8_0}) {
    Open(dtype);
    Shard shard;
    for (int i = 0; i < 40; ++i) {
      if (pick(0, 2) == 0) Shuffle(uint64_t(i));
      const int begin = int(pick(0, kLayers - 1)), end = int(pick(begin + 1, kLayers));
      const LayerRange layers{begin, end, begin == 0, end == kLayers};
      FfnPlan ffn = Whole(pick(0, 3) == 0 ? FfnMode::kDense : FfnMode::kExact);
      if (pick(0, 1) == 0) {
        const int64_t from = pick(0, kNeurons - 1);
        ffn = Share(end - begin, {from, pick(from + 1, kNeurons)}, pick(0, 1) == 0);
      }
      Shard next = Load(layers, ffn, &shard);
      ExpectFresh(next, layers, ffn);
      shard = std::move(next);
    }
  }
}

TEST_P(ShardTakeoverTest, PredictorsAreTakenOverToo) {
  testing::TinyModelSpec spec{.n_layer = kLayers, .n_ff = int(kNeurons)};
  spec.dialect = testing::GgufDialect::kPowerInfer;
  Open(spec);
  const LayerRange all{0, kLayers, true, true};
  FfnPlan whole = Whole(FfnMode::kPredicted);
  FfnPlan half = Share(kLayers, {40, 90});
  half.modes = FfnMode::kPredicted;
  Shard first = Load(all, whole);
  Shard second = Load(all, half, &first);
  EXPECT_EQ(second.report().read_bytes, 0u);
  ExpectFresh(second, all, half);
  const Shard third = Load(all, whole, &second);
  ExpectFresh(third, all, whole);
}

// Half of the neurons, then the other half and some: nothing new fits what the old leaves free.
TEST(ShardTakeover, OnAFullCardAllIsReadAgain) {
  const TempFile file(testing::TinyModel(
      {.arch = "arcee", .n_layer = kLayers, .n_ff = int(kNeurons), .dtype = DType::kF32}));
  const auto model = OpenModel(file.path());
  ASSERT_TRUE(model.ok());
  const LayerRange all{0, kLayers, true, true};
  const auto device_of = [](uint64_t n_bytes) {
    return testing::MakeApartDevice({.memory_bytes = n_bytes});
  };
  const auto needed = [&](const FfnPlan& ffn) {
    const auto device = device_of(uint64_t{1} << 30);
    const auto shard = Shard::Load(model->source(), all, ffn, *device, IgnoreProgress);
    EXPECT_TRUE(shard.ok()) << shard.status();
    return device->memory().total_bytes - device->memory().free_bytes;
  };
  const FfnPlan before = Share(kLayers, {0, 100}), after = Share(kLayers, {20, 124});
  const auto device = device_of(needed(after) + 4096);
  auto prior = Shard::Load(model->source(), all, before, *device, IgnoreProgress);
  ASSERT_TRUE(prior.ok()) << prior.status();
  const auto shard = Shard::Load(model->source(), all, after, *device, IgnoreProgress, &*prior);
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_NE(shard->report().note.find("read again"), std::string::npos) << shard->report().note;
  EXPECT_EQ(shard->report().kept_bytes, 0u);
  EXPECT_EQ(shard->View({0, WeightRole::kFfnUp}).n_rows, 104);
}

}  // namespace
}  // namespace thermocline::worker
