#include "proto/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <random>

#include "base/str.h"
#include "tests/unit/proto/random_messages.h"

namespace thermocline::proto {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> EncodeToBytes(const Message& message) {
  std::vector<std::byte> bytes;
  Encode(message, &bytes);
  return bytes;
}

bool Same(const Message& a, const Message& b) {
  if (a.index() != b.index()) return false;
  if (const auto* failure = std::get_if<Failure>(&a)) {
    const Status& other = std::get<Failure>(b).status;
    return failure->status.code() == other.code() && failure->status.message() == other.message();
  }
  return std::visit(
      [&](const auto& kind) {
        using Kind = std::decay_t<decltype(kind)>;
        if constexpr (std::is_same_v<Kind, Failure>) {
          return false;
        } else {
          return kind == std::get<Kind>(b);
        }
      },
      a);
}

Status DecodeStatus(const Message& message) { return Decode(EncodeToBytes(message)).status(); }

StepBatch BatchOf(StepEntry entry) { return StepBatch{.entries = {std::move(entry)}}; }

TEST(Codec, DecodedMessageEqualsEncoded) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    Generator generator(seed);
    for (int kind = 0; kind < Generator::kKinds; ++kind) {
      const Message message = generator.Next(kind);
      const auto decoded = Decode(EncodeToBytes(message));
      ASSERT_TRUE(decoded.ok()) << "seed " << seed << " kind " << kind << ": " << decoded.status();
      EXPECT_TRUE(Same(message, *decoded)) << "seed " << seed << " kind " << kind;
    }
  }
}

TEST(Codec, EncodeReplacesWhatWasThere) {
  std::vector<std::byte> bytes(100);
  Encode(Shutdown{"bye"}, &bytes);
  EXPECT_EQ(bytes, EncodeToBytes(Shutdown{"bye"}));
}

TEST(Codec, DecodeAsRefusesAnotherKind) {
  const auto bytes = EncodeToBytes(Welcome{{1}, {2}});
  EXPECT_TRUE(DecodeAs<Welcome>(bytes).ok());
  EXPECT_EQ(DecodeAs<Hello>(bytes).status().code(), StatusCode::kDataLoss);
}

TEST(Codec, TruncatedAndFlippedBytesNeverCrash) {
  int n_refused = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Generator generator(seed);
    std::mt19937_64 random(seed);
    for (int kind = 0; kind < Generator::kKinds; ++kind) {
      auto bytes = EncodeToBytes(generator.Next(kind));
      if (bytes.empty()) continue;
      for (int flip = 0; flip < 20; ++flip) {
        auto hostile = bytes;
        hostile[random() % hostile.size()] ^= std::byte(1 << random() % 8);
        if (flip % 2 == 0) hostile.resize(random() % hostile.size());
        n_refused += !Decode(hostile).ok();
      }
    }
  }
  EXPECT_GT(n_refused, 1000);
}

TEST(Codec, EmptyAndUnknownMessagesAreRefused) {
  EXPECT_THAT(Decode({}).status().message(), HasSubstr("no known kind"));
  // Field 99, length-delimited, empty: a kind of a later version.
  const std::vector<std::byte> unknown{std::byte(0x9a), std::byte(0x06), std::byte(0)};
  EXPECT_THAT(Decode(unknown).status().message(), HasSubstr("no known kind"));
}

TEST(Codec, SizeIsBoundedBeforeParsing) {
  const std::vector<std::byte> bytes(kMaxMessageBytes + 1);
  EXPECT_THAT(Decode(bytes).status().message(),
              HasSubstr("too large: bytes=4194305 limit=4194304"));
}

TEST(Codec, TokensOfAStepAreBounded) {
  StepBatch batch;
  batch.entries.assign(2, StepEntry{.tokens = std::vector<int32_t>(kMaxStepTokens / 2 + 1, 7)});
  EXPECT_THAT(DecodeStatus(batch).message(), HasSubstr("tokens of a step: n=8194 limit=8192"));
}

TEST(Codec, EntriesNeedTokens) {
  EXPECT_THAT(DecodeStatus(BatchOf({.seq = {5}})).message(), HasSubstr("no tokens: seq=5"));
}

TEST(Codec, NegativeNumbersAreRefused) {
  EXPECT_THAT(DecodeStatus(BatchOf({.tokens = {-1}})).message(),
              HasSubstr("tokens out of range: -1"));
  EXPECT_THAT(DecodeStatus(BatchOf({.first_position = -1, .tokens = {1}})).message(),
              HasSubstr("first_position out of range: -1"));
  EXPECT_THAT(
      DecodeStatus(BatchOf({.tokens = {1}, .start = SequenceStart{.n_prompt = -3}})).message(),
      HasSubstr("n_prompt out of range: -3"));
  EXPECT_THAT(DecodeStatus(Heartbeat{.kv_pages_used = -1}).message(),
              HasSubstr("kv_pages_used out of range"));
  EXPECT_THAT(DecodeStatus(AssignPlan{.max_step_tokens = 0}).message(),
              HasSubstr("max_step_tokens out of range: 0"));
}

// Workers measure types that no file has.
TEST(Codec, RatesOfEveryTypeArriveAndOthersAreRefused) {
  Hello hello;
  for (int type = 0; type < kNumDTypes; ++type) {
    hello.profile.weight_rates.push_back({.dtype = DType(type)});
    hello.profile.compute_rates.push_back({.dtype = DType(type)});
  }
  std::vector<std::byte> bytes;
  Encode(hello, &bytes);
  const auto decoded = DecodeAs<Hello>(bytes);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, hello);
  hello.profile.compute_rates.back().dtype = DType(kNumDTypes);
  EXPECT_THAT(DecodeStatus(hello).message(), HasSubstr("compute_rates.dtype out of range: 11"));
  hello.profile.compute_rates.clear();
  hello.profile.weight_rates.back().dtype = DType(kNumDTypes);
  EXPECT_THAT(DecodeStatus(hello).message(), HasSubstr("weight_rates.dtype out of range: 11"));
}

TEST(Codec, EnumsOutsideTheirRangeAreRefused) {
  AssignPlan assign;
  assign.plan.link = placement::LinkKind(9);
  EXPECT_THAT(DecodeStatus(assign).message(), HasSubstr("plan.link out of range: 9"));
  assign.plan.link = placement::LinkKind::kMpi;
  assign.plan.wire = DType(kNumDTypes);
  EXPECT_THAT(DecodeStatus(assign).message(), HasSubstr("plan.wire out of range"));
  EXPECT_THAT(DecodeStatus(Failure{OkStatus()}).message(), HasSubstr("failure.code is ok"));
}

TEST(Codec, StageMustBeOneOfThePlan) {
  AssignPlan assign;
  assign.plan.stages.resize(2);
  assign.stage = 2;
  EXPECT_THAT(DecodeStatus(assign).message(), HasSubstr("assign.stage out of range: 2"));
}

TEST(Codec, ListsAreBounded) {
  SequenceStart start;
  start.params.logit_bias.assign(model::kMaxLogitBias + 1, {1, 1.0f});
  EXPECT_THAT(DecodeStatus(BatchOf({.tokens = {1}, .start = start})).message(),
              HasSubstr("too many logit_bias: n=1025 limit=1024"));
  start = {.end_ids = std::vector<int32_t>(kMaxEndIds + 1)};
  EXPECT_THAT(DecodeStatus(BatchOf({.tokens = {1}, .start = start})).message(),
              HasSubstr("too many end_ids"));
  StepResult result{.entries = {{.sampled = model::SampledToken{}}}};
  result.entries[0].sampled->top.resize(model::kMaxLogprobs + 1);
  EXPECT_THAT(DecodeStatus(result).message(), HasSubstr("too many top logprobs: n=21 limit=20"));
  EXPECT_THAT(DecodeStatus(StepBatch{.released = std::vector<SeqId>(kMaxReleased + 1)}).message(),
              HasSubstr("too many released"));
}

TEST(Codec, NumbersThatAreNotFiniteAreRefused) {
  SequenceStart start;
  start.params.temperature = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(DecodeStatus(BatchOf({.tokens = {1}, .start = start})).message(),
              HasSubstr("temperature is not finite"));
}

TEST(Codec, SamplingParametersOutOfRangeAreRefused) {
  const auto error_of = [](const model::SamplingParams& params) {
    return DecodeStatus(BatchOf({.tokens = {1}, .start = SequenceStart{.params = params}}));
  };
  EXPECT_EQ(error_of({.top_p = 0}).code(), StatusCode::kDataLoss);
  EXPECT_THAT(error_of({.top_p = 0}).message(), HasSubstr("top_p must be in (0, 1]"));
  EXPECT_THAT(error_of({.min_p = 1.5f}).message(), HasSubstr("min_p must be in [0, 1]"));
  EXPECT_THAT(error_of({.temperature = -1}).message(), HasSubstr("temperature must be in"));
  EXPECT_THAT(error_of({.repetition_penalty = 0}).message(), HasSubstr("repetition_penalty"));
  EXPECT_THAT(error_of({.logit_bias = {{1, 500.0f}}}).message(), HasSubstr("logit_bias"));
}

TEST(Codec, ProbesAndReportsAreInRange) {
  EXPECT_THAT(DecodeStatus(ProbeLink{.transport = placement::LinkKind(2)}).message(),
              HasSubstr("probe.transport out of range"));
  EXPECT_THAT(DecodeStatus(ProbeLink{.budget_us = kMaxProbeBudgetUs + 1}).message(),
              HasSubstr("probe.budget_us out of range"));
  EXPECT_THAT(DecodeStatus(ProbeLink{.patience_us = kMaxProbeBudgetUs + 1}).message(),
              HasSubstr("probe.patience_us out of range"));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(DecodeStatus(LinkReport{.round_trip_s = nan}).message(),
              HasSubstr("report.round_trip_s is not finite"));
  EXPECT_THAT(DecodeStatus(LinkReport{.bytes_per_s = -1}).message(),
              HasSubstr("report.bytes_per_s is negative"));
  EXPECT_THAT(DecodeStatus(LinkReport{.message_s = -1}).message(),
              HasSubstr("report.message_s is negative"));
}

// What a worker of another build would read: the bytes on the wire, field by field.
TEST(Codec, ProbesOnTheWire) {
  const std::string probe = {// ProbeLink is field 20 of the message, 16 bytes: round, peer,
                             // address, transport, leads, budget, patience
                             '\xa2', '\x01', '\x10', '\x08', '\x03', '\x10', '\x02',
                             '\x1a', '\x01', 'a',    '\x20', '\x01', '\x28', '\x01',
                             '\x30', '\xe8', '\x07', '\x38', '\x05'};
  std::string got;
  for (const std::byte byte : EncodeToBytes(ProbeLink{.round = 3,
                              .peer = {2},
                              .address = "a",
                              .transport = placement::LinkKind::kZmq,
                              .leads = true,
                              .budget_us = 1000,
                              .patience_us = 5})) {
    got.push_back(static_cast<char>(byte));
  }
  EXPECT_EQ(got, probe);
}

TEST(Codec, LinksOfAPlanAreWithinTheirLimits) {
  AssignPlan assign;
  assign.plan.stages = {{.helpers = {{.to_lead = {.link = placement::LinkKind(2)}}}}};
  EXPECT_THAT(DecodeStatus(assign).message(),
              HasSubstr("link.link out of range: 2 is not in 0..1"));
  assign.plan.stages = {{.to_next = {.wire = DType(kNumDTypes)}}};
  EXPECT_THAT(DecodeStatus(assign).message(), HasSubstr("link.wire out of range"));
}

// What a worker of another build would read: the bytes on the wire, field by field.
TEST(Codec, LinksOfAPlanOnTheWire) {
  AssignPlan assign;
  assign.plan.stages = {{.to_next = {placement::LinkKind::kMpi, DType::kF16}}};
  std::string got;
  for (const std::byte byte : EncodeToBytes(assign)) got.push_back(static_cast<char>(byte));
  // Field 60 of the stage, 4 bytes: link, which is there although it is 0, and wire.
  const std::string link = {'\xe2', '\x03', '\x04', '\x08', '\x00', '\x10', '\x01'};
  EXPECT_NE(got.find(link), std::string::npos);
  assign.plan.stages = {{}};
  got.clear();
  for (const std::byte byte : EncodeToBytes(assign)) got.push_back(static_cast<char>(byte));
  EXPECT_EQ(got.find(link.substr(0, 2)), std::string::npos) << "nothing said, nothing sent";
}

TEST(Codec, GpusAreWithinTheirLimits) {
  Hello hello;
  hello.profile.gpus.resize(placement::kMaxGpus + 1);
  EXPECT_THAT(DecodeStatus(hello).message(), HasSubstr("too many profile.gpus: n=65 limit=64"));
  hello.profile.gpus = {{.peers = {{.gpu = 1}}}};
  EXPECT_THAT(DecodeStatus(hello).message(), HasSubstr("peer.gpu out of range: 1 is not in 0..0"));
  hello.profile.gpus = {{.peers = {{.path = placement::GpuPath(7)}}}};
  EXPECT_THAT(DecodeStatus(hello).message(), HasSubstr("peer.path out of range"));
  hello.profile.gpus = {{.pcie_lanes = -1}};
  EXPECT_THAT(DecodeStatus(hello).message(), HasSubstr("gpu.pcie_lanes out of range"));
  hello.profile.gpus = {{.copy_s = placement::Figure::Measured(-1)}};
  EXPECT_THAT(DecodeStatus(hello).message(), HasSubstr("gpu.copy_s is negative"));
}

TEST(Codec, MembersOfAGroupAscendAndAreHelpersOfAStage) {
  for (const std::vector<int>& helpers :
       std::vector<std::vector<int>>{{1, 0}, {2, 2}, {-1}, {64}}) {
    EXPECT_THAT(DecodeStatus(AssignPlan{.nccl_helpers = helpers}).message(),
                HasSubstr("assign.nccl_helpers"));
  }
}

TEST(Codec, AnNcclIdIsWholeOrNone) {
  EXPECT_THAT(DecodeStatus(Hello{.nccl_id = "short"}).message(),
              HasSubstr("hello.nccl_id has neither 0 nor 128 bytes: bytes=5"));
  EXPECT_THAT(DecodeStatus(Ready{.nccl_id = std::string(129, 'i')}).message(),
              HasSubstr("ready.nccl_id has neither 0 nor 128 bytes"));
  EXPECT_THAT(DecodeStatus(AssignPlan{.nccl_id = "x"}).message(), HasSubstr("assign.nccl_id"));
}

// What a worker of another build would read: the bytes on the wire, field by field.
TEST(Codec, GpusOnTheWire) {
  Hello hello{.protocol_version = 0};
  hello.profile.gpus = {{.name = "g",
                         .memory_bytes = 1,
                         .numa_node = -1,
                         .peers = {{.path = placement::GpuPath::kSystem, .n_nvlinks = 2}}}};
  std::string got;
  for (const std::byte byte : EncodeToBytes(hello)) got.push_back(static_cast<char>(byte));
  // GpuInfo is field 15 of the profile: name, memory, NUMA node in zigzag, three unknown
  // figures, a peer of field 17 with its path, links and two unknown figures, and a fourth.
  const std::string gpu = {'\x7a', '\x1b', '\x0a', '\x01', 'g',    '\x28', '\x01', '\x58',
                           '\x01', '\x6a', '\x00', '\x72', '\x00', '\x7a', '\x00', '\x8a',
                           '\x01', '\x08', '\x10', '\x06', '\x18', '\x02', '\x2a', '\x00',
                           '\x32', '\x00', '\x92', '\x01', '\x00'};
  EXPECT_NE(got.find(gpu), std::string::npos);
}

TEST(Codec, TextsAreBoundedAndFreeTextsAreCut) {
  EXPECT_THAT(DecodeStatus(Hello{.host = std::string(kMaxTextBytes + 1, 'h')}).message(),
              HasSubstr("hello.host is too long: bytes=4097 limit=4096"));
  const auto decoded = DecodeAs<Shutdown>(EncodeToBytes(Shutdown{std::string(9000, 'r')}));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->reason.size(), kMaxTextBytes);
}

TEST(Codec, NeuronTablesHoldEveryNeuronOnce) {
  EXPECT_THAT(DecodeStatus(NeuronTable{.neurons = {2, 0, 2}}).message(),
              HasSubstr("neuron stands twice: 2"));
  EXPECT_THAT(DecodeStatus(NeuronTable{.neurons = {0, 3, 1}}).message(),
              HasSubstr("table.neuron out of range: 3 is not in 0..2"));
  EXPECT_THAT(DecodeStatus(NeuronTable{.layer = -1}).message(),
              HasSubstr("table.layer out of range: -1"));
}

TEST(Codec, FiringCountsAreOfTheirNeuronsAndTokens) {
  EXPECT_THAT(DecodeStatus(FiringCounts{.n_tokens = 4, .counts = {1, 5}}).message(),
              HasSubstr("fired for more tokens than there were: count=5 tokens=4"));
  EXPECT_THAT(DecodeStatus(FiringCounts{.n_tokens = 4, .neurons = {7, 8}, .counts = {1}}).message(),
              HasSubstr("other neurons than counts: neurons=2 counts=1"));
  EXPECT_THAT(DecodeStatus(FiringCounts{.neurons = {model::kMaxFf}, .counts = {0}}).message(),
              HasSubstr("firing.neuron out of range"));
}

TEST(Codec, SpansNameWhatTheirMessageNames) {
  const TraceSpans good{.names = {"norm"}, .tracks = {"device"}, .spans = {{.layer = 3}}};
  EXPECT_TRUE(Decode(EncodeToBytes(good)).ok());
  TraceSpans other = good;
  other.spans[0].name = 1;
  EXPECT_THAT(DecodeStatus(other).message(), HasSubstr("span.name out of range: 1 is not in 0..0"));
  other = good;
  other.tracks.clear();
  EXPECT_THAT(DecodeStatus(other).message(), HasSubstr("span.track"));
  other = good;
  other.spans[0].duration_ns = -1;
  EXPECT_THAT(DecodeStatus(other).message(), HasSubstr("span.duration_ns"));
  other = good;
  other.spans[0].begin_ns = kMaxClock_ns + 1;
  EXPECT_THAT(DecodeStatus(other).message(), HasSubstr("span.begin_ns"));
  other = good;
  other.names.resize(kMaxTraceNames + 1);
  EXPECT_THAT(DecodeStatus(other).message(), HasSubstr("too many trace.names"));
  other = good;
  other.spans.resize(kMaxTraceSpans + 1);
  EXPECT_THAT(DecodeStatus(other).message(), HasSubstr("too many trace.spans"));
}

TEST(Codec, ClocksSayTimesThatCanBeSummed) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  EXPECT_TRUE(Decode(EncodeToBytes(ClockEcho{-kMaxClock_ns, kMaxClock_ns})).ok());
  EXPECT_THAT(DecodeStatus(ClockProbe{-kMaxClock_ns - 1}).message(), HasSubstr("probe.sent_ns"));
  EXPECT_THAT(DecodeStatus(ClockEcho{-kMost, 0}).message(), HasSubstr("clock_echo.sent_ns"));
  EXPECT_THAT(DecodeStatus(ClockEcho{0, kMost}).message(), HasSubstr("clock_echo.at_ns"));
}

}  // namespace
}  // namespace thermocline::proto
