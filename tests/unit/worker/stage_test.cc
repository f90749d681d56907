#include "worker/stage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/support/stage_chain.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::worker {
namespace {

using testing::ChainOptions;
using testing::OneEntry;
using testing::StageChain;
using testing::TempFile;
using testing::TinyModel;
using testing::TinyModelSpec;

const std::vector<int32_t> kTokens = {5,  17,  42, 260, 8,  99, 3,   3,  200, 61, 7,
                                      33, 250, 12, 90,  64, 1,  128, 30, 31,  32};

TinyModelSpec SpecOf(const std::string& arch, DType dtype = DType::kF32) {
  TinyModelSpec spec;
  spec.arch = arch;
  spec.dtype = dtype;
  spec.n_layer = 3;
  return spec;
}

double RelativeError(const std::vector<float>& got, const std::vector<float>& wanted) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    error += (got[i] - wanted[i]) * (got[i] - wanted[i]);
    norm += wanted[i] * wanted[i];
  }
  return std::sqrt(error / norm);
}

class EachArchitecture : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Stage, EachArchitecture,
                         ::testing::Values("llama", "qwen2", "arcee", "nemotron", "opt"));

TEST_P(EachArchitecture, CpuAgreesWithReference) {
  const TempFile file(TinyModel(SpecOf(GetParam())));
  ChainOptions reference;
  reference.reference_device = true;
  const auto wanted = StageChain(file.path(), reference).Logits(SeqId{1}, kTokens, 64);
  const auto got = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_LT(RelativeError(got[i], wanted[i]), 1e-5) << i;
}

TEST_P(EachArchitecture, AnyCutIntoStagesGivesTheSameBits) {
  const TempFile file(TinyModel(SpecOf(GetParam())));
  const auto whole = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  for (const std::vector<int>& cuts : std::vector<std::vector<int>>{{1}, {2}, {1, 2}}) {
    ChainOptions options;
    options.cuts = cuts;
    EXPECT_EQ(StageChain(file.path(), options).Logits(SeqId{1}, kTokens, 64), whole);
  }
}

TEST_P(EachArchitecture, ChunksAndThreadsGiveTheSameBits) {
  const TempFile file(TinyModel(SpecOf(GetParam(), DType::kQ8_0)));
  const auto whole = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  ChainOptions options;
  options.n_threads = 3;
  StageChain threaded(file.path(), options);
  EXPECT_EQ(threaded.Logits(SeqId{1}, kTokens, 64), whole);
  EXPECT_EQ(threaded.Logits(SeqId{2}, kTokens, 1), whole);
  EXPECT_EQ(threaded.Logits(SeqId{3}, kTokens, 5), whole);
}

TEST_P(EachArchitecture, ABatchOfSequencesGivesEachTheBitsItHasAlone) {
  const TempFile file(TinyModel(SpecOf(GetParam())));
  const auto alone = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  StageChain together(file.path(), {});
  const std::vector<int32_t> other = {9, 8, 7, 6, 5, 4};
  proto::StepBatch batch = OneEntry(SeqId{7}, 0, other, false, 6);
  batch.entries.push_back(OneEntry(SeqId{8}, 0, kTokens, false, 21).entries.front());
  ASSERT_TRUE(together.Run(batch).ok());
  for (size_t i = 0; i < kTokens.size(); ++i) {
    EXPECT_EQ((together.logits().rows[{SeqId{8}, static_cast<int64_t>(i)}]), alone[i]) << i;
  }
}

TEST(Stage, ExactFfnGivesTheBitsOfTheDenseSum) {
  for (const char* arch : {"arcee", "nemotron", "relu-llama", "opt"}) {
    TinyModelSpec spec = SpecOf(arch == std::string("relu-llama") ? "llama" : arch);
    if (arch == std::string("relu-llama")) spec.activation = "relu";
    const TempFile file(TinyModel(spec));
    ChainOptions dense;
    dense.ffn.down_by_neuron = true;
    ChainOptions exact;
    exact.ffn = {model::FfnMode::kExact, true};
    const auto wanted = StageChain(file.path(), dense).Logits(SeqId{1}, kTokens, 64);
    StageChain sparse(file.path(), exact);
    EXPECT_EQ(sparse.Logits(SeqId{1}, kTokens, 64), wanted) << arch;
    EXPECT_EQ(sparse.Logits(SeqId{2}, kTokens, 1), wanted) << arch;
  }
}

TEST(Stage, ExactFfnOfAQuantisedModelStaysWithinTheRelayingsRounding) {
  const TempFile file(TinyModel(SpecOf("arcee", DType::kQ8_0)));
  ChainOptions exact;
  exact.ffn = {model::FfnMode::kExact, true};
  const auto dense = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  const auto got = StageChain(file.path(), exact).Logits(SeqId{1}, kTokens, 64);
  // Dense rounds the activations that ffn_down multiplies to 8 bits, neuron rows do not.
  for (size_t i = 0; i < dense.size(); ++i) EXPECT_LT(RelativeError(got[i], dense[i]), 2e-2);
}

TEST(Stage, ExactFfnOfASiluModelIsRefused) {
  const TempFile file(TinyModel(SpecOf("llama")));
  auto model = OpenModel(file.path());
  ASSERT_TRUE(model.ok());
  auto device = kernels::MakeReferenceDevice();
  StageOptions options;
  options.layers = {0, 3, true, true};
  options.ffn = {model::FfnMode::kExact, true};
  const auto stage = Stage::Create(model->source(), options, *device, nullptr, IgnoreProgress);
  EXPECT_EQ(stage.status().code(), StatusCode::kInvalidArgument);
}

TEST(Stage, PowerInferFilesRunTheSameDenseAndExact) {
  TinyModelSpec spec = SpecOf("llama");
  spec.dialect = model::GgufDialect::kPowerInfer;
  const TempFile file(TinyModel(spec));
  ChainOptions exact;
  exact.ffn = {model::FfnMode::kExact, true};
  const auto dense = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  EXPECT_EQ(StageChain(file.path(), exact).Logits(SeqId{1}, kTokens, 64), dense);
}

TEST(Stage, HalfPrecisionKvStaysClose) {
  const TempFile file(TinyModel(SpecOf("llama")));
  ChainOptions half;
  half.kv_dtype = DType::kF16;
  const auto wanted = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  const auto got = StageChain(file.path(), half).Logits(SeqId{1}, kTokens, 64);
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_LT(RelativeError(got[i], wanted[i]), 2e-3);
}

TEST(Stage, ReleasedPagesServeTheNextSequence) {
  const TempFile file(TinyModel(SpecOf("llama")));
  ChainOptions options;
  options.n_pages = 2;  // 32 positions: one sequence of 21
  StageChain chain(file.path(), options);
  ASSERT_TRUE(chain.Run(OneEntry(SeqId{1}, 0, kTokens, false, 21)).ok());
  const Status full = chain.Run(OneEntry(SeqId{2}, 0, kTokens, false, 21));
  EXPECT_EQ(full.code(), StatusCode::kResourceExhausted);
  proto::StepBatch next = OneEntry(SeqId{3}, 0, kTokens, false, 21);
  next.released = {SeqId{1}, SeqId{2}};
  EXPECT_TRUE(chain.Run(next).ok());
  EXPECT_EQ(chain.last().kv_pages_used(), 2);
}

TEST(Stage, AStepWithoutEntriesOnlyReleases) {
  const TempFile file(TinyModel(SpecOf("llama")));
  StageChain chain(file.path(), {});
  ASSERT_TRUE(chain.Run(OneEntry(SeqId{1}, 0, kTokens, false, 21)).ok());
  proto::StepBatch release;
  release.released = {SeqId{1}};
  ASSERT_TRUE(chain.Run(release).ok());
  EXPECT_EQ(chain.last().kv_pages_used(), 0);
  EXPECT_TRUE(chain.last().results().empty());
}

TEST(Stage, RefusesBatchesThatContradictThemselves) {
  const TempFile file(TinyModel(SpecOf("llama")));
  StageChain chain(file.path(), {});
  const auto refused = [&](const proto::StepBatch& batch, const char* why) {
    const Status status = chain.Run(batch);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << why;
    EXPECT_NE(status.message().find(why), std::string::npos) << status;
  };
  refused(OneEntry(SeqId{1}, 0, {999999}, false, 1), "token outside the vocabulary");
  refused(OneEntry(SeqId{1}, 0, {-1}, false, 1), "token outside the vocabulary");
  refused(OneEntry(SeqId{1}, 4, {1}, false, 1), "does not follow");
  refused(OneEntry(SeqId{1}, 0, {}, false, 1), "without tokens");
  refused(OneEntry(SeqId{1}, 0, std::vector<int32_t>(65, 1), false, 65), "too many tokens");
  ASSERT_TRUE(chain.Run(OneEntry(SeqId{1}, 0, {1, 2}, false, 2)).ok());
  refused(OneEntry(SeqId{1}, 3, {1}, false, 2), "does not follow");
  proto::StepBatch twice = OneEntry(SeqId{1}, 2, {1}, false, 2);
  twice.entries.push_back(twice.entries.front());
  refused(twice, "two entries of one sequence");
  proto::StepBatch gone = OneEntry(SeqId{1}, 2, {1}, false, 2);
  gone.released = {SeqId{1}};
  refused(gone, "does not follow");
}

TEST(Stage, ARefusedBatchChangesNothing) {
  const TempFile file(TinyModel(SpecOf("llama")));
  StageChain chain(file.path(), {});
  ASSERT_TRUE(chain.Run(OneEntry(SeqId{1}, 0, {1, 2}, false, 2)).ok());
  proto::StepBatch refused = OneEntry(SeqId{2}, 0, {-1}, false, 1);
  refused.released = {SeqId{1}};
  EXPECT_EQ(chain.Run(refused).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(chain.last().kv_pages_used(), 1);
  EXPECT_TRUE(chain.Run(OneEntry(SeqId{1}, 2, {3}, false, 2)).ok());
}

TEST(Stage, AnErrorOfTheProgressEndsTheLoad) {
  const TempFile file(TinyModel(SpecOf("llama")));
  auto model = OpenModel(file.path());
  ASSERT_TRUE(model.ok());
  auto device = kernels::MakeReferenceDevice();
  StageOptions options;
  options.layers = {0, 3, true, true};
  int n_calls = 0;
  const auto stop = [&](uint64_t, uint64_t) {
    return ++n_calls == 3 ? Aborted("stopped") : OkStatus();
  };
  const auto stage = Stage::Create({model->config, model->weights, *model->reader}, options,
                                   *device, nullptr, stop);
  EXPECT_EQ(stage.status().code(), StatusCode::kAborted);
  EXPECT_EQ(n_calls, 3);
}

TEST(Stage, PromptScoresDoNotDependOnChunks) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const auto scores = [&](size_t chunk) {
    StageChain chain(file.path(), {});
    std::vector<model::SampledToken> all;
    for (size_t at = 0; at < kTokens.size(); at += chunk) {
      const size_t end = std::min(kTokens.size(), at + chunk);
      auto batch = OneEntry(SeqId{1}, static_cast<int64_t>(at),
                            {kTokens.begin() + static_cast<std::ptrdiff_t>(at),
                             kTokens.begin() + static_cast<std::ptrdiff_t>(end)},
                            end == kTokens.size(), 21);
      if (at == 0) batch.entries[0].start->params.n_prompt_logprobs = 2;
      EXPECT_TRUE(chain.Run(batch).ok());
      const auto& part = chain.last().results()[0].prompt_scores;
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  };
  const auto whole = scores(64);
  ASSERT_EQ(whole.size(), kTokens.size() - 1);
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_EQ(whole[i].token, kTokens[i + 1]);
    EXPECT_EQ(whole[i].top.size(), 2u);
    EXPECT_LE(whole[i].logprob, whole[i].top[0].logprob);
  }
  EXPECT_EQ(scores(1), whole);
  EXPECT_EQ(scores(4), whole);
  EXPECT_EQ(scores(5), whole);
}

TEST(Stage, EndIdsAreBannedUntilMinTokensAreGenerated) {
  const TempFile file(TinyModel(SpecOf("llama")));
  const auto free = StageChain(file.path(), {}).Generate(SeqId{1}, kTokens, 4);
  StageChain chain(file.path(), {});
  auto batch = OneEntry(SeqId{1}, 0, kTokens, true, 21);
  batch.entries[0].start->min_tokens = 1;
  batch.entries[0].start->end_ids = {free[0]};
  ASSERT_TRUE(chain.Run(batch).ok());
  const int32_t first = chain.last().results()[0].sampled->token;
  EXPECT_NE(first, free[0]);
  // The second token may end the sequence again: it is what the unbanned model says.
  ASSERT_TRUE(chain.Run(OneEntry(SeqId{1}, 21, {first}, true, 21)).ok());
  auto history = kTokens;
  history.push_back(first);
  const auto after = StageChain(file.path(), {}).Generate(SeqId{1}, history, 1);
  EXPECT_EQ(chain.last().results()[0].sampled->token, after[0]);
}

TEST(Stage, AReprefilledSequenceGoesOnWithTheSameTokens) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  StageChain chain(file.path(), {});
  const auto wanted = chain.Generate(SeqId{1}, kTokens, 12);
  StageChain other(file.path(), {});
  auto history = kTokens;
  const auto first = other.Generate(SeqId{1}, kTokens, 5);
  history.insert(history.end(), first.begin(), first.end());
  proto::StepBatch batch = OneEntry(SeqId{1}, 0, history, true, static_cast<int>(kTokens.size()));
  batch.released = {SeqId{1}};
  ASSERT_TRUE(other.Run(batch).ok());
  EXPECT_EQ(other.last().results()[0].sampled->token, wanted[5]);
}

// Keeps what the FFN of each layer reads and what its down projection does.
class FfnRecorder final : public OpObserver {
 public:
  void OnOp(const LoweredOp& op, TensorView input, TensorView output) override {
    if (op.key.role == model::WeightRole::kFfnNorm) normed[op.key.layer] = Copy(output);
    if (op.key.role == model::WeightRole::kFfnUp) read[op.key.layer] = Copy(input);
    if (op.key.role == model::WeightRole::kFfnUp) pre_activation[op.key.layer] = Copy(output);
    if (op.key.role == model::WeightRole::kFfnDown) activations[op.key.layer] = Copy(input);
  }
  std::map<int, std::vector<float>> normed, read, pre_activation, activations;

 private:
  static std::vector<float> Copy(TensorView x) {
    return {x.f32_row(0), x.f32_row(0) + x.n_rows * x.n_cols};
  }
};

TEST(Stage, AnObserverSeesEveryLayersValuesAndChangesNone) {
  const TempFile file(TinyModel(SpecOf("arcee")));
  const auto unwatched = StageChain(file.path(), {}).Logits(SeqId{1}, kTokens, 64);
  FfnRecorder recorder;
  ChainOptions options;
  options.observer = &recorder;
  options.cuts = {1};  // layers are numbered as in the model, not as in the stage
  EXPECT_EQ(StageChain(file.path(), options).Logits(SeqId{1}, kTokens, 64), unwatched);
  ASSERT_EQ(recorder.activations.size(), 3u);
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(recorder.normed[layer], recorder.read[layer]);
    const std::vector<float>& before = recorder.pre_activation[layer];
    const std::vector<float>& after = recorder.activations[layer];
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i) {
      const float relu = std::max(before[i], 0.0f);
      ASSERT_EQ(after[i], relu * relu);
    }
  }
}

}  // namespace
}  // namespace thermocline::worker
