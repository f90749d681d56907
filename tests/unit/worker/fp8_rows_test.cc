// Stages whose device holds the rows of its neurons in 8 bits: they compute what a model does whose
// weights were rounded so beforehand.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "base/str.h"
#include "kernels/quantize.h"
#include "placement/model_bytes.h"
#include "placement/op_load.h"
#include "proto/codec.h"
#include "tests/support/apart_device.h"
#include "tests/support/emulated_gpu.h"
#include "tests/support/shared_stage.h"
#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "worker/device_rows.h"
#include "worker/profiler.h"

namespace thermocline::worker {
namespace {

using model::FfnMode;
using model::NeuronRange;
using model::NeuronRows;
using model::WeightKey;
using model::WeightRole;
using testing::ChainOptions;
using testing::Difference;
using testing::EmulatedGpu;
using testing::Logits;
using testing::SharedStage;
using testing::SharedStageOptions;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

constexpr int kLayers = 2;
constexpr int64_t kNeurons = 192;
const std::vector<int32_t> kTokens = {5, 17, 42, 260, 8, 99, 3};
// Sums of a few hundred products in another order.
constexpr double kRounding = 1e-4;
constexpr NeuronRows kBoth[] = {NeuronRows::kFp8E4M3, NeuronRows::kFp8E5M2};

TinyModelSpec SpecOf(const std::string& arch, DType dtype = DType::kF32) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  spec.n_layer = kLayers;
  spec.n_ff = static_cast<int>(kNeurons);
  return spec;
}

void RoundRow(DType fp8, std::vector<float>* row) {
  std::vector<std::byte> codes(RowBytes(fp8, row->size()));
  kernels::QuantizeRow(fp8, *row, codes.data());
  kernels::DequantizeRow(fp8, codes.data(), static_cast<int64_t>(row->size()), row->data());
}

// The F32 model with gate, up and down as they come out of 8 bits, down along its neurons.
std::vector<std::byte> Rounded(const TinyModelSpec& spec, NeuronRows rows) {
  std::vector<std::byte> bytes = TinyModel(spec);
  const TempFile file(bytes);
  const LoadedModel model = OpenModel(file.path()).value();
  const DType fp8 = *model::Fp8TypeOf(rows);
  for (int layer = 0; layer < kLayers; ++layer) {
    for (const WeightRole role : {WeightRole::kFfnGate, WeightRole::kFfnUp, WeightRole::kFfnDown}) {
      const model::TensorInfo* const info = model.weights.Find(role, layer);
      if (info == nullptr) continue;
      const bool by_column = role == WeightRole::kFfnDown;
      const auto n_rows = static_cast<size_t>(info->n_rows());
      const auto n_cols = static_cast<size_t>(info->n_cols());
      auto* const values = reinterpret_cast<float*>(bytes.data() + info->offset_bytes);
      const size_t n = by_column ? n_cols : n_rows, length = by_column ? n_rows : n_cols;
      for (size_t i = 0; i < n; ++i) {
        const auto at = [&](size_t j) { return by_column ? j * n_cols + i : i * n_cols + j; };
        std::vector<float> row(length);
        for (size_t j = 0; j < length; ++j) row[j] = values[at(j)];
        RoundRow(fp8, &row);
        for (size_t j = 0; j < length; ++j) values[at(j)] = row[j];
      }
    }
  }
  return bytes;
}

class Fp8Rows : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Stage, Fp8Rows,
                         ::testing::Values("llama", "qwen2", "arcee", "nemotron", "opt"));

TEST_P(Fp8Rows, GiveTheLogitsAndTokensOfWeightsThatWereRoundedBefore) {
  const TinyModelSpec spec = SpecOf(GetParam());
  for (const NeuronRows rows : kBoth) {
    const TempFile file(TinyModel(spec)), rounded(Rounded(spec, rows));
    ChainOptions as_is;
    as_is.ffn = {FfnMode::kDense, true};
    const Logits wanted = StageChain(rounded.path(), as_is).Logits(SeqId{1}, kTokens, 64);
    const auto tokens = StageChain(rounded.path(), as_is).Generate(SeqId{2}, kTokens, 4);
    const Logits exact = StageChain(file.path(), as_is).Logits(SeqId{1}, kTokens, 64);

    ChainOptions fp8 = as_is;
    fp8.ffn.rows = rows;
    fp8.make_device = EmulatedGpu;
    StageChain chain(file.path(), fp8);
    EXPECT_NE(chain.stage(0).load_report().note.find(Str("in 8 bits (", NeuronRowsName(rows), ")")),
              std::string::npos);
    const Logits logits = chain.Logits(SeqId{1}, kTokens, 4);
    EXPECT_LT(Difference(logits, wanted), kRounding) << NeuronRowsName(rows);
    EXPECT_EQ(chain.Generate(SeqId{2}, kTokens, 4), tokens) << NeuronRowsName(rows);
    // Each weight is off by up to 2^-4 of itself, or 2^-3, and each layer has three products.
    const double weight = rows == NeuronRows::kFp8E4M3 ? 0x1p-4 : 0x1p-3;
    const double off = Difference(logits, exact);
    EXPECT_GT(off, kRounding) << "they are not in 8 bits";
    EXPECT_LT(off, std::pow(1 + weight, 3 * kLayers) - 1) << NeuronRowsName(rows);
    EXPECT_EQ(StageChain(file.path(), fp8).Logits(SeqId{1}, kTokens, 4), logits) << "not the same";
  }
}

TEST(Fp8RowsTest, EveryFloatTypeIsHeldInThem) {
  for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
    const TempFile file(TinyModel(SpecOf("arcee", dtype)));
    for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact}) {
      ChainOptions options;
      options.ffn = {.modes = mode, .rows = NeuronRows::kFp8E4M3};
      options.reference_device = true;
      const Logits wanted = StageChain(file.path(), options).Logits(SeqId{1}, kTokens, 64);
      options.make_device = EmulatedGpu;
      EXPECT_LT(Difference(StageChain(file.path(), options).Logits(SeqId{1}, kTokens, 4), wanted),
                kRounding)
          << DTypeName(dtype) << " " << model::FfnModeName(mode);
    }
  }
}

// Quantised rows would be no smaller; but ffn_down of Q8_0, re-laid to F16, is.
TEST(Fp8RowsTest, QuantisedRowsStayAsTheyAre) {
  const TempFile file(TinyModel(SpecOf("arcee", DType::kQ4_0)));
  ChainOptions options;
  options.make_device = EmulatedGpu;
  options.ffn = {FfnMode::kExact, true};
  const Logits wanted = StageChain(file.path(), options).Logits(SeqId{1}, kTokens, 64);
  options.ffn.rows = NeuronRows::kFp8E5M2;
  StageChain chain(file.path(), options);
  EXPECT_EQ(chain.Logits(SeqId{1}, kTokens, 64), wanted);
  EXPECT_NE(chain.stage(0).load_report().note.find("no rows in 8 bits"), std::string::npos);
  const TempFile bytes(TinyModel(SpecOf("arcee", DType::kQ8_0)));
  StageChain relaid(bytes.path(), options);
  EXPECT_EQ(relaid.stage(0).shard().View({0, WeightRole::kFfnUp}).dtype, DType::kQ8_0);
  EXPECT_EQ(relaid.stage(0).shard().View({0, WeightRole::kFfnDownT}).dtype, DType::kFp8E5M2);
}

// Each for its own reason.
TEST(Fp8RowsTest, WhereNoneIsInThemItIsSaidWhy) {
  const auto device = EmulatedGpu();
  const auto note = [&](const TinyModelSpec& spec, const std::vector<NeuronRange>& neurons) {
    const TempFile file(TinyModel(spec));
    const LoadedModel model = OpenModel(file.path()).value();
    const bool is_helper = !neurons.empty();
    const FfnPlan ffn{.neurons = neurons, .is_helper = is_helper, .rows = NeuronRows::kFp8E4M3};
    const auto shard = Shard::Load(model.source(), {0, kLayers, !is_helper, !is_helper}, ffn,
                                   *device, IgnoreProgress);
    EXPECT_TRUE(shard.ok()) << shard.status();
    return shard->report().note;
  };
  const std::string none = "no rows in 8 bits: ";
  EXPECT_EQ(note(SpecOf("arcee", DType::kQ4_0), {}),
            none + "those of quantised types would not be smaller");
  TinyModelSpec odd = SpecOf("arcee", DType::kF16);
  odd.n_ff = 200;
  EXPECT_EQ(note(odd, {}), none + "32 does not divide both sides of the matrices");
  EXPECT_EQ(note(SpecOf("arcee", DType::kF16), std::vector<NeuronRange>(kLayers)),
            none + "no neurons are held here");
}

// With the type's name, as the file's F32 is no worse for it.
TEST(Fp8RowsTest, AWeightBeyondTheirRangeIsNamedAndWhatHoldsIt) {
  const TinyModelSpec spec = SpecOf("arcee");
  const auto device = EmulatedGpu();
  struct Case {
    WeightRole role;
    const char* tensor;
    const char* row;
  };
  // The second row of 64 columns; of ffn_down [64, 192], by neuron, the 65th.
  for (const Case& at : {Case{WeightRole::kFfnUp, "blk.1.ffn_up.weight", "row=1"},
                         Case{WeightRole::kFfnDown, "blk.1.ffn_down.weight", "row=64"}}) {
    for (const float value : {1e8f, 1e10f, std::numeric_limits<float>::infinity()}) {
      std::vector<std::byte> bytes = TinyModel(spec);
      {
        const TempFile file(bytes);
        const LoadedModel model = OpenModel(file.path()).value();
        const uint64_t offset = model.weights.Find(at.role, 1)->offset_bytes;
        std::memcpy(bytes.data() + offset + 64 * sizeof value, &value, sizeof value);
      }
      const TempFile file(bytes);
      const LoadedModel model = OpenModel(file.path()).value();
      for (const NeuronRows rows : kBoth) {
        const FfnPlan ffn{.down_by_neuron = true, .rows = rows};
        const Status status =
            Shard::Load(model.source(), {0, kLayers, true, true}, ffn, *device, IgnoreProgress)
                .status();
        const std::string name(DTypeName(*model::Fp8TypeOf(rows)));
        const auto says = [&](const std::string& part) {
          EXPECT_NE(status.message().find(part), std::string::npos) << status << ", not " << part;
        };
        if (std::isinf(value)) {
          EXPECT_EQ(status.code(), StatusCode::kDataLoss) << status;
          says("infinite or not a number");
        } else if (rows == NeuronRows::kFp8E5M2 && value < 1e9f) {
          EXPECT_TRUE(status.ok()) << status;
          continue;
        } else {
          EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status;
          says("too large for " + name + ", --gpu-rows as-is holds it");
          says(at.row);
        }
        says(at.tensor);
      }
    }
  }
}

TEST(Fp8RowsTest, SeveralGiveTheBitsOfOne) {
  const TempFile file(TinyModel(SpecOf("arcee", DType::kF16)));
  for (const NeuronRows rows : kBoth) {
    ChainOptions alone;
    alone.ffn = {.modes = FfnMode::kExact, .rows = rows};
    alone.make_device = EmulatedGpu;
    SharedStageOptions options{.modes = FfnMode::kExact,
                               .members = {{kLayers, NeuronRange{64, 128}},
                                           {kLayers, NeuronRange{0, 64}},
                                           {kLayers, NeuronRange{128, kNeurons}}}};
    options.make_lead_device = options.make_helper_device = EmulatedGpu;
    options.lead_rows = options.helper_rows = rows;
    EXPECT_EQ(SharedStage(file.path(), options).Logits({1}, kTokens, 3),
              StageChain(file.path(), alone).Logits({1}, kTokens, 64))
        << NeuronRowsName(rows);
  }
}

TEST(Fp8RowsTest, LeadAndHelperMayDiffer) {
  const TempFile file(TinyModel(SpecOf("arcee", DType::kF16)));
  SharedStageOptions options{
      .modes = FfnMode::kExact,
      .members = {{kLayers, NeuronRange{0, 64}}, {kLayers, NeuronRange{64, kNeurons}}}};
  const Logits exact = SharedStage(file.path(), options).Logits({1}, kTokens, 64);
  const double limit = std::pow(1 + 0x1p-4, 3 * kLayers) - 1;
  options.make_lead_device = EmulatedGpu;
  options.lead_rows = NeuronRows::kFp8E4M3;
  const double by_lead =
      Difference(SharedStage(file.path(), options).Logits({1}, kTokens, 3), exact);
  EXPECT_GT(by_lead, kRounding);
  EXPECT_LT(by_lead, limit);
  options.make_helper_device = std::exchange(options.make_lead_device, nullptr);
  options.helper_rows = std::exchange(options.lead_rows, NeuronRows::kAsIs);
  const double by_helper =
      Difference(SharedStage(file.path(), options).Logits({1}, kTokens, 3), exact);
  EXPECT_GT(by_helper, kRounding);
  EXPECT_LT(by_helper, limit);
}

// Of one stage alone, whatever its mode, and of members of one.
TEST(Fp8RowsTest, TakeTheBytesThatThePlanCounts) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_0}) {
    const TempFile file(TinyModel(SpecOf("arcee", dtype)));
    const LoadedModel model = OpenModel(file.path()).value();
    const model::LayerRange all{0, kLayers, true, true};
    const std::vector<NeuronRange> part(kLayers, NeuronRange{64, 128});
    for (const FfnMode mode : {FfnMode::kDense, FfnMode::kExact}) {
      const auto bytes = placement::ModelBytes::Of(model.config, model.weights, mode);
      for (const NeuronRows rows : {NeuronRows::kAsIs, NeuronRows::kFp8E4M3}) {
        const auto held = [&](const FfnPlan& ffn) {
          const auto device = EmulatedGpu();
          const auto shard = Shard::Load(model.source(), all, ffn, *device, IgnoreProgress);
          EXPECT_TRUE(shard.ok()) << shard.status();
          uint64_t sum = 0;
          for (int layer = model::kNoLayer; layer < kLayers; ++layer) {
            for (int role = 0; role < model::kNumWeightRoles; ++role) {
              sum += shard->View({layer, WeightRole(role)}).bytes();
            }
          }
          return sum;
        };
        EXPECT_EQ(held({.modes = mode, .rows = rows}), bytes.WholePart(all, rows).sum())
            << DTypeName(dtype) << " " << NeuronRowsName(rows) << " " << model::FfnModeName(mode);
        EXPECT_EQ(held({.modes = mode, .neurons = part, .rows = rows}),
                  bytes.LeadPart(all, part, rows).sum());
        EXPECT_EQ(held({.modes = mode, .neurons = part, .is_helper = true, .rows = rows}),
                  bytes.HelperPart(all, part, rows).sum());
      }
    }
  }
}

// What a step reads less is what the cost model takes off the ops' loads.
TEST(Fp8RowsTest, AreReadAsTheCostModelCounts) {
  const TempFile file(TinyModel(SpecOf("arcee", DType::kF16)));
  const auto read = [&](NeuronRows rows) {
    ChainOptions options;
    options.ffn.rows = rows;
    options.make_device = EmulatedGpu;
    StageChain chain(file.path(), options);
    chain.Logits(SeqId{1}, {17}, 1);
    return static_cast<double>(chain.traffic().weight_bytes);
  };
  const LoadedModel model = OpenModel(file.path()).value();
  const auto all = placement::NeuronShare::All(kNeurons, 1);
  double less = 0;
  for (int layer = 0; layer < kLayers; ++layer) {
    const model::FfnOptions dense{FfnMode::kDense, false, model.source().LayerSparsityOf(layer)};
    const auto graph = BuildLayerGraph(model.config, model.weights, layer, dense);
    for (const auto& load : placement::LoadsOf(graph, model.config, model.weights, {})) {
      less += (1 - load.narrow_share) * load.Bytes(all);
    }
  }
  EXPECT_GT(less, 0);
  EXPECT_DOUBLE_EQ(read(NeuronRows::kAsIs) - read(NeuronRows::kFp8E5M2), less);
}

TEST(Fp8RowsTest, AnotherPlanKeepsTheRowsThatStay) {
  const TempFile file(TinyModel(SpecOf("llama", DType::kF16)));
  const LoadedModel model = OpenModel(file.path()).value();
  const auto device = EmulatedGpu();
  const model::LayerRange all{0, kLayers, true, true};
  const auto load = [&](NeuronRange neurons, Shard* prior) {
    FfnPlan ffn{.modes = FfnMode::kExact, .rows = NeuronRows::kFp8E4M3};
    ffn.neurons.assign(kLayers, neurons);
    return Shard::Load(model.source(), all, ffn, *device, IgnoreProgress, prior).value();
  };
  const auto rows = [&](const Shard& shard) {
    std::vector<std::vector<std::byte>> matrices;
    for (int layer = 0; layer < kLayers; ++layer) {
      for (const WeightRole role :
           {WeightRole::kFfnGate, WeightRole::kFfnUp, WeightRole::kFfnDownT}) {
        const TensorView view = shard.View({layer, role});
        EXPECT_EQ(view.dtype, DType::kFp8E4M3);
        std::vector<std::byte>& bytes = matrices.emplace_back(view.bytes());
        device->CopyToHost(view.data, bytes.data(), bytes.size());
        EXPECT_TRUE(device->Synchronize().ok());
      }
    }
    return matrices;
  };
  Shard first = load({0, 128}, nullptr);
  Shard second = load({64, kNeurons}, &first);
  EXPECT_GT(second.report().kept_bytes, 0u);
  const auto fresh = rows(load({64, kNeurons}, nullptr));
  EXPECT_EQ(rows(second), fresh);
  const Shard third = load({64, kNeurons}, &second);
  EXPECT_EQ(rows(third), fresh);
  EXPECT_EQ(third.report().read_bytes, 0u);
}

// A hello that is refused is a worker that nobody hears of.
TEST(Fp8RowsTest, WhatIsMeasuredOfThemReachesTheCoordinator) {
  // The reference's ops: hundreds of measurements by emulated ones would take minutes.
  const auto device = testing::MakeApartDevice({.memory_bytes = 64 << 20, .is_reference = true});
  for (const NeuronRows rows : kBoth) {
    const auto measured =
        MeasureWorker(*device, {.memory_bytes = 1 << 20, .rows = rows, .time = Duration{1}});
    ASSERT_TRUE(measured.ok()) << measured.status();
    proto::Hello hello{.profile = *measured};
    hello.profile.neuron_rows = rows;
    const DType fp8 = *model::Fp8TypeOf(rows);
    const auto is_fp8 = [&](const auto& rate) { return rate.dtype == fp8; };
    const auto& weights = hello.profile.weight_rates;
    const auto& products = hello.profile.compute_rates;
    EXPECT_TRUE(std::any_of(weights.begin(), weights.end(), is_fp8));
    EXPECT_TRUE(std::any_of(products.begin(), products.end(), is_fp8));
    std::vector<std::byte> bytes;
    proto::Encode(hello, &bytes);
    const auto decoded = proto::DecodeAs<proto::Hello>(bytes);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(*decoded, hello);
  }
}

// Workers on CPUs are told, too, and go on.
TEST(Fp8RowsTest, ADeviceWithoutThemHoldsRowsAsTheyAreAndSaysSo) {
  const auto cpu = kernels::MakeCpuDevice({.n_threads = 1}).value();
  const auto gpu = EmulatedGpu();
  for (const NeuronRows wanted : kBoth) {
    EXPECT_EQ(RowsOn(*gpu, wanted).rows, wanted);
    EXPECT_EQ(RowsOn(*gpu, wanted).note, "");
    const DeviceRows rows = RowsOn(*cpu, wanted);
    EXPECT_EQ(rows.rows, NeuronRows::kAsIs);
    EXPECT_NE(rows.note.find(Str(NeuronRowsName(wanted), " has no effect")), std::string::npos);
    EXPECT_NE(rows.note.find(cpu->name()), std::string::npos) << rows.note;
  }
  EXPECT_EQ(RowsOn(*cpu, NeuronRows::kAsIs).rows, NeuronRows::kAsIs);
  EXPECT_EQ(RowsOn(*cpu, NeuronRows::kAsIs).note, "");
}

TEST(Fp8RowsTest, ADeviceWithoutThemLoadsNone) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  const LoadedModel model = OpenModel(file.path()).value();
  const auto cpu = kernels::MakeCpuDevice({.n_threads = 1}).value();
  const auto shard = Shard::Load(model.source(), {0, kLayers, true, true},
                                 {.rows = NeuronRows::kFp8E4M3}, *cpu, IgnoreProgress);
  EXPECT_EQ(shard.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(shard.status().message().find(cpu->name()), std::string::npos) << shard.status();
}

}  // namespace
}  // namespace thermocline::worker
