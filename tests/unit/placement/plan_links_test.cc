#include "placement/plan_links.h"

#include <gtest/gtest.h>

#include <vector>

#include "placement/plan_tables.h"

namespace thermocline::placement {
namespace {

// Worker 1 leads a stage with helpers 2 and 3, worker 4 the next.
Plan ThreeLinks() {
  Plan plan{.n_layer = 4, .link = LinkKind::kMpi};
  plan.stages = {{.lead = {1}, .layers = {0, 2, true, false}},
                 {.lead = {4}, .layers = {2, 4, false, true}}};
  plan.stages[0].helpers = {{.worker = {2}}, {.worker = {3}}};
  return plan;
}

// Workers 1 and 2 share a host; worker 3 is no MPI rank.
ClusterProfile FourWorkers() {
  ClusterProfile cluster;
  for (const uint64_t id : {1, 2, 3, 4}) {
    cluster.workers.push_back({.id = {id}, .host = id < 3 ? "a" : id == 3 ? "b" : "c"});
  }
  for (const uint64_t from : {1, 2, 3, 4}) {
    for (const uint64_t to : {1, 2, 3, 4}) {
      const bool zmq = from == 3 || to == 3;
      if (from == to) continue;
      cluster.links.push_back(
          {.from = {from}, .to = {to}, .transport = zmq ? LinkKind::kZmq : LinkKind::kMpi});
    }
  }
  return cluster;
}

constexpr char kText[] = R"({"link":"mpi","stages":[
    {"lead":1,"layers":[0,2],"wire":"F16","helpers":[
        {"worker":2,"neurons":[0,8]},{"worker":3,"neurons":[8,16],"link":"zmq"}]},
    {"lead":4,"layers":[2,4]}]})";

TEST(PlanLinks, EachIsVisitedOnce) {
  std::vector<std::pair<WorkerId, WorkerId>> seen;
  const Plan plan = ThreeLinks();
  ForEachLink(plan, [&](WorkerId from, WorkerId to, const LinkChoice&) {
    seen.push_back({from, to});
  });
  EXPECT_EQ(seen, (std::vector<std::pair<WorkerId, WorkerId>>{{{1}, {2}}, {{1}, {3}}, {{1}, {4}}}));
}

TEST(PlanLinks, ByPairALinkTakesTheTransportThatTheClusterHasForIt) {
  Plan plan = ThreeLinks();
  ChooseLinks(FourWorkers(), {.link = LinkKind::kMpi}, {}, &plan);
  EXPECT_EQ(plan, ThreeLinks()) << "nobody asked for it";
  ChooseLinks(FourWorkers(), {.link = LinkKind::kMpi, .link_by_pair = true}, {}, &plan);
  Plan expected = ThreeLinks();
  expected.stages[0].helpers[1].to_lead.link = LinkKind::kZmq;
  EXPECT_EQ(plan, expected);
}

TEST(PlanLinks, BetweenHostsTheWireTypeMayBeAnother) {
  Plan plan = ThreeLinks();
  ChooseLinks(FourWorkers(), {.wire_between_hosts = DType::kF16}, {}, &plan);
  EXPECT_EQ(plan.stages[0].helpers[0].to_lead, LinkChoice{});
  EXPECT_EQ(plan.stages[0].helpers[1].to_lead.wire, DType::kF16);
  EXPECT_EQ(plan.stages[0].to_next.wire, DType::kF16);
  EXPECT_EQ(plan.stages[1].to_next, LinkChoice{}) << "the last stage has no link";
}

TEST(PlanLinks, HostsWithoutNamesAreNotTheSame) {
  EXPECT_FALSE(ShareHost({.host = ""}, {.host = ""}));
  EXPECT_TRUE(ShareHost({.host = "a"}, {.host = "a"}));
}

TEST(PlanLinks, WhatATextSaysStays) {
  const PlanRequest request{
      .link = LinkKind::kZmq, .link_by_pair = true, .wire_between_hosts = DType::kBF16};
  const auto file = ReadPlan(kText, FourWorkers(), request);
  ASSERT_TRUE(file.ok()) << file.status();
  const Plan* const plan = &file->plan;
  EXPECT_EQ(plan->link, LinkKind::kMpi);
  EXPECT_EQ(plan->stages[0].helpers[0].to_lead, LinkChoice{}) << "the text says mpi for all";
  EXPECT_EQ(plan->WayOf(plan->stages[0].helpers[1].to_lead),
            (LinkWay{LinkKind::kZmq, DType::kBF16}));
  EXPECT_EQ(plan->WayOf(plan->stages[0].to_next), (LinkWay{LinkKind::kMpi, DType::kF16}));
}

TEST(PlanLinks, TransportsOfATextAreThoseOfItsPairsAndOfAll) {
  const PairTransport of_text = AsSaid(TransportsOfText(kText), LinkKind::kZmq);
  EXPECT_EQ(of_text({1}, {2}), LinkKind::kMpi);
  EXPECT_EQ(of_text({1}, {3}), LinkKind::kZmq);
  EXPECT_EQ(of_text({3}, {1}), LinkKind::kZmq) << "both ways";
  EXPECT_EQ(of_text({2}, {3}), LinkKind::kMpi) << "joined by nothing, but mpi is for all";
  const PairTransport of_one = AsSaid(
      TransportsOfText(
          R"({"stages":[{"lead":1,"layers":[0,2],"link":"mpi"},{"lead":2,"layers":[2,4]}]})"),
      LinkKind::kZmq);
  EXPECT_EQ(of_one({2}, {1}), LinkKind::kMpi);
  EXPECT_EQ(of_one({1}, {3}), LinkKind::kZmq);
  EXPECT_EQ(AsSaid(TransportsOfText("no plan"), LinkKind::kMpi)({1}, {2}), LinkKind::kMpi);
}

TEST(PlanLinks, WiresAreThoseOfThePairs) {
  Plan plan = ThreeLinks();
  plan.wire = DType::kBF16;
  plan.stages[0].helpers[1].to_lead.wire = DType::kF16;
  const PairWires of_plan = PairWires::Of(plan);
  EXPECT_EQ(of_plan({1}, {3}), DType::kF16);
  EXPECT_EQ(of_plan({3}, {1}), DType::kF16);
  EXPECT_EQ(of_plan({1}, {2}), DType::kBF16);
  const PairWires of_request = PairWires::Of({.wire_between_hosts = DType::kF16}, FourWorkers());
  EXPECT_EQ(of_request({1}, {2}), DType::kF32);
  EXPECT_EQ(of_request({2}, {4}), DType::kF16);
}

TEST(PlanLinks, TextsTellWhatIsUnlike) {
  Plan plan = ThreeLinks();
  EXPECT_EQ(WaysText(plan), "mpi links (F32)");
  plan.stages[0].helpers[1].to_lead = {LinkKind::kZmq, DType::kF16};
  EXPECT_EQ(WaysText(plan), "mpi (F32) and zmq (F16) links");
  EXPECT_EQ(UnlikeText(plan, plan.stages[0].helpers[1].to_lead), " over zmq (F16)");
  EXPECT_EQ(UnlikeText(plan, plan.stages[0].helpers[0].to_lead), "");
  EXPECT_EQ(UnlikeText(plan, {LinkKind::kMpi, DType::kF32}), "") << "said, and not unlike";
  plan.stages[0].helpers.clear();
  plan.stages[0].to_next.link = LinkKind::kZmq;
  EXPECT_EQ(WaysText(plan), "zmq links (F32)") << "of all that there are";
  plan.stages.pop_back();
  EXPECT_EQ(WaysText(plan), "");
}

}  // namespace
}  // namespace thermocline::placement
