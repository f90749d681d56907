// What --transport, --wire-dtype and the file of --plan make of a service's links.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <span>
#include <string_view>

#include "coordinator/flags.h"
#include "tests/support/temp_file.h"

namespace thermocline::coordinator {
namespace {

using placement::LinkKind;
using ::testing::HasSubstr;

std::optional<std::string> NoEnvironment(const std::string&) { return std::nullopt; }

// As Open MPI tells rank 0 of three.
std::optional<std::string> ThreeRanks(const std::string& name) {
  if (name == "OMPI_COMM_WORLD_SIZE") return "3";
  if (name == "OMPI_COMM_WORLD_RANK") return "0";
  return std::nullopt;
}

Result<placement::PlanRequest> LinksOf(ServeFlags flags, const comm::EnvironmentLookup& launch) {
  flags.model_path = "model.gguf";
  TC_ASSIGN_OR_RETURN(const ServeConfig config, ResolveServeFlags(flags, launch));
  return config.engine.plan;
}

std::span<const std::byte> BytesOf(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(LinkFlags, EachPairChoosesUnlessToldOtherwise) {
  const auto ranks = LinksOf({}, ThreeRanks);
  ASSERT_TRUE(ranks.ok()) << ranks.status();
  EXPECT_EQ(ranks->link, LinkKind::kMpi);
  EXPECT_TRUE(ranks->link_by_pair);
  const auto alone = LinksOf({}, NoEnvironment);
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_EQ(alone->link, LinkKind::kZmq);
  EXPECT_TRUE(alone->link_by_pair);
  for (const auto& [name, kind] : {std::pair("mpi", LinkKind::kMpi), {"zmq", LinkKind::kZmq}}) {
    const auto told = LinksOf({.transport = name}, ThreeRanks);
    ASSERT_TRUE(told.ok()) << told.status();
    EXPECT_EQ(told->link, kind);
    EXPECT_FALSE(told->link_by_pair);
  }
}

TEST(LinkFlags, ImpossibleOnesAreNamed) {
  EXPECT_THAT(LinksOf({.transport = "mpi"}, NoEnvironment).status().message(),
              HasSubstr("--transport mpi needs a launch by mpirun"));
  EXPECT_THAT(LinksOf({.transport = "ib"}, ThreeRanks).status().message(),
              HasSubstr("unknown --transport \"ib\"; one of auto mpi zmq"));
  EXPECT_THAT(LinksOf({.wire_dtype = "q8"}, ThreeRanks).status().message(),
              HasSubstr("unknown --wire-dtype \"q8\"; one of f32 f16 bf16 auto"));
}

TEST(LinkFlags, WireAutoIsNarrowBetweenHostsOnly) {
  const auto request = LinksOf({.wire_dtype = "auto"}, NoEnvironment);
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->wire, DType::kF32);
  EXPECT_EQ(request->wire_between_hosts, DType::kF16);
  EXPECT_EQ(LinksOf({}, NoEnvironment)->wire_between_hosts, std::nullopt);
  EXPECT_EQ(LinksOf({.wire_dtype = "bf16"}, NoEnvironment)->wire, DType::kBF16);
}

TEST(LinkFlags, WhatAPlanSaysOfAllItsLinksWins) {
  const testing::TempFile says(
      BytesOf(R"({"link":"zmq","stages":[{"lead":1,"layers":[0,1]},{"lead":2,"layers":[1,2]}]})"));
  const auto said = LinksOf({.plan_path = says.path()}, ThreeRanks);
  ASSERT_TRUE(said.ok()) << said.status();
  EXPECT_EQ(said->link, LinkKind::kZmq);
  EXPECT_FALSE(said->link_by_pair);
  // One without links has nothing to say of them.
  const testing::TempFile alone(BytesOf(R"({"link":"zmq","stages":[{"lead":1,"layers":[0,2]}]})"));
  const auto of_alone = LinksOf({.plan_path = alone.path()}, ThreeRanks);
  ASSERT_TRUE(of_alone.ok()) << of_alone.status();
  EXPECT_TRUE(of_alone->link_by_pair);
  const testing::TempFile leaves(BytesOf(R"({"stages":[{"lead":1,"layers":[0,2],"link":"zmq"}]})"));
  const auto left = LinksOf({.plan_path = leaves.path()}, ThreeRanks);
  ASSERT_TRUE(left.ok()) << left.status();
  EXPECT_EQ(left->link, LinkKind::kMpi);
  EXPECT_TRUE(left->link_by_pair);
}

}  // namespace
}  // namespace thermocline::coordinator
