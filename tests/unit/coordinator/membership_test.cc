#include "coordinator/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/str.h"

namespace thermocline::coordinator {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

TimePoint At(double s) { return {std::chrono::nanoseconds(int64_t(s * 1e9))}; }

MembershipOptions ThreeWorkers() {
  return {.expected = {{{1}, "node1"}, {{2}, "node2"}, {{3}, ""}},
          .build = "b1",
          .join_timeout = seconds(60),
          .heartbeat_expiry = seconds(5)};
}

proto::Hello HelloOf(uint64_t wanted, const std::string& host) {
  proto::Hello hello{.build = "b1", .wanted_id = WorkerId{wanted}, .host = host, .pid = 10};
  hello.profile = {
      .n_cores = 4, .memory_bytes = 1000, .read_bytes_per_s = placement::Figure::Measured(5)};
  return hello;
}

Membership WithThree() {
  Membership membership(ThreeWorkers(), At(0));
  for (uint64_t id = 1; id <= 3; ++id) {
    EXPECT_TRUE(membership.OnHello({100 + id}, HelloOf(id, "h"), At(0)).ok());
  }
  return membership;
}

TEST(Membership, IsCompleteWhenAllJoined) {
  Membership membership(ThreeWorkers(), At(0));
  EXPECT_EQ(*membership.OnHello({103}, HelloOf(3, "node9"), At(1)), WorkerId{3});
  EXPECT_FALSE(membership.complete());
  EXPECT_TRUE(membership.OnHello({101}, HelloOf(1, "node1"), At(1)).ok());
  EXPECT_TRUE(membership.OnHello({102}, HelloOf(2, "node2"), At(1)).ok());
  EXPECT_TRUE(membership.complete());
  const placement::ClusterProfile profile = membership.profile();
  ASSERT_EQ(profile.workers.size(), 3u);
  EXPECT_EQ(profile.workers[2].id, WorkerId{3});
  EXPECT_EQ(profile.workers[2].host, "node9");
  EXPECT_EQ(membership.NameOf({3}), "worker 3 on node9");
  EXPECT_EQ(membership.FindId({102}), WorkerId{2});
  EXPECT_EQ(membership.FindId({999}), std::nullopt);
}

TEST(Membership, GpusAreShownWithWhatIsAssumedOfThem) {
  Membership membership(ThreeWorkers(), At(0));
  proto::Hello hello = HelloOf(1, "node1");
  hello.profile.gpus = {{.name = "G", .pcie_generation = 4, .peers = {}}};
  ASSERT_TRUE(membership.OnHello({101}, hello, At(0)).ok());
  const std::vector<WorkerStatus> statuses = membership.Statuses(At(0));
  ASSERT_EQ(statuses.size(), 1u);
  ASSERT_EQ(statuses[0].gpus.size(), 1u);
  EXPECT_EQ(statuses[0].gpus[0].upload_bytes_per_s, placement::Figure::Assumed(24e9));
  EXPECT_EQ(membership.profile().workers[0].gpus, statuses[0].gpus);
}

TEST(Membership, AReadyWorkerMayTellAnotherPlaceToMeet) {
  Membership membership(ThreeWorkers(), At(0));
  proto::Hello hello = HelloOf(1, "node1");
  hello.nccl_id = "first";
  ASSERT_TRUE(membership.OnHello({101}, hello, At(0)).ok());
  ASSERT_TRUE(membership.OnReady({101}, {}, At(1)).ok());
  EXPECT_EQ(membership.hello({1}).nccl_id, "first");
  membership.UseUpNcclId({1});
  EXPECT_EQ(membership.hello({1}).nccl_id, "");
  ASSERT_TRUE(membership.OnReady({101}, {.nccl_id = "second"}, At(1)).ok());
  EXPECT_EQ(membership.hello({1}).nccl_id, "second");
  membership.UseUpNcclLinkId({1});
  ASSERT_TRUE(membership.OnReady({101}, {.nccl_link_id = "third"}, At(1)).ok());
  EXPECT_EQ(membership.hello({1}).nccl_id, "second");
  EXPECT_EQ(membership.hello({1}).nccl_link_id, "third");
}

TEST(Membership, WorkersOfOneHostShareItsBandwidth) {
  Membership membership(ThreeWorkers(), At(0));
  const auto join = [&](uint64_t id, const std::string& host, int n_threads, double bytes_per_s) {
    proto::Hello hello = HelloOf(id, host);
    hello.profile.n_threads = n_threads;
    hello.profile.read_bytes_per_s = placement::Figure::Measured(bytes_per_s);
    EXPECT_TRUE(membership.OnHello({100 + id}, hello, At(0)).ok());
  };
  join(1, "a", 1, 20e9);
  join(2, "b", 4, 7e9);
  join(3, "a", 3, 4e9);
  const auto workers = membership.profile().workers;
  EXPECT_DOUBLE_EQ(workers[0].read_bytes_per_s.value, 6e9);
  EXPECT_DOUBLE_EQ(workers[1].read_bytes_per_s.value, 7e9);
  EXPECT_DOUBLE_EQ(workers[2].read_bytes_per_s.value, 18e9);
}

TEST(Membership, WorkersThatOfferTheirHostShareItsMemory) {
  Membership membership(ThreeWorkers(), At(0));
  const auto join = [&](uint64_t id, const std::string& host, uint64_t memory, bool offers_host) {
    proto::Hello hello = HelloOf(id, host);
    hello.profile.memory_bytes = memory;
    hello.offers_host = offers_host;
    EXPECT_TRUE(membership.OnHello({100 + id}, hello, At(0)).ok());
  };
  const auto memory_of = [&](size_t at) { return membership.profile().workers[at].memory_bytes; };
  join(1, "a", 1000, true);
  EXPECT_EQ(memory_of(0), 1000u);
  join(2, "a", 980, true);
  EXPECT_EQ(memory_of(0), 500u);
  EXPECT_EQ(memory_of(1), 500u);
  join(3, "a", 300, false);  // --memory
  EXPECT_EQ(memory_of(1), 500u);
  EXPECT_EQ(memory_of(2), 300u);
  EXPECT_EQ(membership.Statuses(At(0))[0].memory_bytes, 500u);
  membership.SetLeaving({2}, true, At(1));
  EXPECT_EQ(memory_of(0), 1000u);
  EXPECT_EQ(membership.profile({WorkerId{2}}).workers[0].memory_bytes, 500u);
  membership.SetLeaving({2}, false, At(2));
  membership.Remove({1});
  EXPECT_EQ(memory_of(0), 980u);
}

TEST(Membership, WorkersThatCrowdTheirHostAreTold) {
  Membership membership(ThreeWorkers(), At(0));
  const auto join = [&](uint64_t id, const std::string& host, int n_threads) {
    proto::Hello hello = HelloOf(id, host);  // of four cores
    hello.profile.n_threads = n_threads;
    EXPECT_TRUE(membership.OnHello({100 + id}, hello, At(0)).ok());
    return membership.CrowdingNote({id});
  };
  EXPECT_EQ(join(1, "a", 2), "");
  EXPECT_EQ(join(2, "a", 2), "");
  EXPECT_EQ(join(3, "a", 4),
            "3 workers on a compute with 8 threads on 4 cores and slow each other down: give each "
            "--threads 1, or --cpus with CPUs of its own");
}

TEST(Membership, WorkersOfOneHostWithOtherDevicesKeepTheirBandwidth) {
  Membership membership(ThreeWorkers(), At(0));
  const auto join = [&](uint64_t id, const std::string& device, double bytes_per_s) {
    proto::Hello hello = HelloOf(id, "a");
    hello.device = device;
    hello.profile.n_threads = 1;
    hello.profile.read_bytes_per_s = placement::Figure::Measured(bytes_per_s);
    EXPECT_TRUE(membership.OnHello({100 + id}, hello, At(0)).ok());
  };
  join(1, "cpu avx2 x1", 20e9);
  join(2, "cpu avx2 x1 slowed down", 10e9);
  join(3, "gpu", 900e9);
  const auto workers = membership.profile().workers;
  EXPECT_DOUBLE_EQ(workers[0].read_bytes_per_s.value, 20e9);
  EXPECT_DOUBLE_EQ(workers[1].read_bytes_per_s.value, 10e9);
  EXPECT_DOUBLE_EQ(workers[2].read_bytes_per_s.value, 900e9);
}

TEST(Membership, WorkersWithoutARankGetTheLowestFreeId) {
  Membership membership(ThreeWorkers(), At(0));
  EXPECT_TRUE(membership.OnHello({1}, HelloOf(1, "a"), At(0)).ok());
  proto::Hello hello = HelloOf(0, "b");
  hello.wanted_id.reset();
  EXPECT_EQ(*membership.OnHello({2}, hello, At(0)), WorkerId{2});
  EXPECT_EQ(*membership.OnHello({3}, hello, At(0)), WorkerId{3});
  EXPECT_THAT(membership.OnHello({4}, hello, At(0)).status().message(),
              HasSubstr("the cluster is complete: n_workers=3"));
}

TEST(Membership, RefusesWithAReason) {
  Membership membership(ThreeWorkers(), At(0));
  ASSERT_TRUE(membership.OnHello({1}, HelloOf(1, "a"), At(0)).ok());
  const auto refusal = [&](const proto::Hello& hello) {
    return membership.OnHello({50}, hello, At(0)).status().message();
  };
  EXPECT_THAT(refusal(HelloOf(1, "b")), HasSubstr("worker id is taken: id=1 host=a pid=10"));
  EXPECT_THAT(refusal(HelloOf(9, "b")), HasSubstr("worker id is not expected: id=9 n_workers=3"));
  proto::Hello old = HelloOf(2, "b");
  old.protocol_version = proto::kProtocolVersion + 2;
  EXPECT_THAT(refusal(old),
              HasSubstr(Str("protocol versions differ: worker=", proto::kProtocolVersion + 2,
                            " coordinator=", proto::kProtocolVersion)));
  proto::Hello other = HelloOf(2, "b");
  other.build = "b2";
  EXPECT_THAT(refusal(other), HasSubstr("builds differ: worker=b2 coordinator=b1"));
  EXPECT_THAT(membership.OnHello({1}, HelloOf(2, "a"), At(0)).status().message(),
              HasSubstr("joined already"));
}

TEST(Membership, JoinDeadlineNamesWhoIsMissing) {
  Membership membership(ThreeWorkers(), At(0));
  ASSERT_TRUE(membership.OnHello({1}, HelloOf(1, "node1"), At(57)).ok());
  proto::Hello other = HelloOf(3, "node3");
  other.build = "b2";
  ASSERT_FALSE(membership.OnHello({3}, other, At(58)).ok());
  EXPECT_TRUE(membership.CheckJoinDeadline(At(59)).ok());
  const Status status = membership.CheckJoinDeadline(At(60));
  EXPECT_EQ(status.code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(status.message(),
            "1 of 3 workers joined within 60 s; missing: worker 2 on node2, worker 3; "
            "refused node3: builds differ: worker=b2 coordinator=b1");
}

TEST(Membership, SilenceIsALostWorker) {
  Membership membership = WithThree();
  for (uint64_t id : {1, 3}) {
    ASSERT_TRUE(membership.OnHeartbeat({100 + id}, proto::Heartbeat{}, At(3)).ok());
  }
  EXPECT_TRUE(membership.Silent(At(4.9)).empty());
  const auto silent = membership.Silent(At(5));
  ASSERT_EQ(silent.size(), 1u);
  EXPECT_EQ(silent[0].first, WorkerId{2});
  EXPECT_EQ(silent[0].second.code(), StatusCode::kUnavailable);
  EXPECT_EQ(silent[0].second.message(), "worker 2 on h is lost: no heartbeat for 5 s");
}

TEST(Membership, StrangersAreNotMembers) {
  Membership membership = WithThree();
  EXPECT_EQ(membership.OnHeartbeat({9}, {}, At(1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(membership.OnLoadProgress({9}, {}, At(1)).code(), StatusCode::kNotFound);
  EXPECT_EQ(membership.OnReady({9}, {}, At(1)).code(), StatusCode::kNotFound);
}

TEST(Membership, IsReadyWhenEveryLeadIs) {
  Membership membership = WithThree();
  placement::Plan plan;
  plan.stages = {{.lead = {3}, .layers = {0, 2, true, false}, .weights_bytes = 40},
                 {.lead = {1}, .layers = {2, 5, false, true}, .weights_bytes = 60}};
  membership.OnPlan(plan, At(1));
  EXPECT_FALSE(membership.all_ready());
  ASSERT_TRUE(membership.OnLoadProgress({103}, {.bytes_done = 10, .bytes_total = 40}, At(1)).ok());
  std::vector<WorkerStatus> statuses = membership.Statuses(At(2));
  EXPECT_EQ(statuses[2].stage, 0);
  EXPECT_EQ(statuses[2].bytes_done, 10u);
  EXPECT_EQ(statuses[0].layer_end, 5);
  EXPECT_EQ(statuses[1].stage, -1);
  EXPECT_DOUBLE_EQ(statuses[0].heartbeat_age_s, 1.0);
  ASSERT_TRUE(membership.OnReady({103}, {.owned_bytes = 40}, At(2)).ok());
  EXPECT_FALSE(membership.all_ready());
  ASSERT_TRUE(membership.OnReady({101}, {.owned_bytes = 60}, At(2)).ok());
  EXPECT_TRUE(membership.all_ready());  // worker 2 is spare
}

TEST(Membership, HelpersLoadTooAndNeuronsStandAsInThePlan) {
  Membership membership = WithThree();
  placement::Plan plan;
  plan.stages = {{.lead = {3}, .layers = {0, 5, true, true}}};
  plan.stages[0].helpers = {{.worker = {1}, .bytes = {.weights = 7}}};
  membership.OnPlan(plan, At(1));
  const std::vector<WorkerStatus> statuses = membership.Statuses(At(1));
  EXPECT_TRUE(statuses[0].is_helper);
  EXPECT_EQ(statuses[0].stage, 0);
  EXPECT_EQ(statuses[0].bytes_total, 7u);
  EXPECT_FALSE(statuses[2].is_helper);
  EXPECT_FALSE(membership.IsSpare({1}));
  const model::NeuronOrder order{{{1, 0}, {1, 0}, {0, 1}, {0, 1}, {0, 1}}};
  const uint64_t planned = model::ChecksumOf(order, 0, 5);
  ASSERT_TRUE(membership.OnReady({103}, {.neuron_order = planned}, At(2)).ok());
  EXPECT_FALSE(membership.all_ready());
  ASSERT_TRUE(membership.OnReady({101}, {.neuron_order = planned}, At(2)).ok());
  EXPECT_TRUE(membership.all_ready());
  EXPECT_TRUE(membership.CheckNeuronOrders(plan, order).ok());
  ASSERT_TRUE(membership.OnReady({101}, {.neuron_order = 6}, At(2)).ok());
  EXPECT_THAT(membership.CheckNeuronOrders(plan, order).message(),
              HasSubstr("worker 1 on h shares neurons that stand in another order"));
  // Agreeing among themselves is not enough: the plan was made for another order.
  ASSERT_TRUE(membership.OnReady({103}, {.neuron_order = 6}, At(2)).ok());
  EXPECT_THAT(membership.CheckNeuronOrders(plan, order).message(),
              HasSubstr("worker 3 on h shares neurons that stand in another order"));
  plan.stages[0].helpers.clear();  // who holds all of them may keep its order
  EXPECT_TRUE(membership.CheckNeuronOrders(plan, order).ok());
}

TEST(Membership, SpareWorkersMayLeaveAndNobodyTakesTheirId) {
  Membership membership = WithThree();
  EXPECT_FALSE(membership.IsSpare({2}));  // until there is a plan everybody is needed
  placement::Plan plan;
  plan.stages = {{.lead = {3}, .layers = {0, 2, true, false}},
                 {.lead = {1}, .layers = {2, 5, false, true}}};
  membership.OnPlan(plan, At(1));
  EXPECT_TRUE(membership.IsSpare({2}));
  EXPECT_FALSE(membership.IsSpare({1}));
  membership.Remove({2});
  EXPECT_FALSE(membership.IsSpare({2}));
  EXPECT_TRUE(membership.complete());
  EXPECT_TRUE(membership.CheckJoinDeadline(At(1000)).ok());
  EXPECT_THAT(membership.OnHello({9}, HelloOf(2, "h"), At(2)).status().message(),
              HasSubstr("the worker of this id has left"));
  EXPECT_FALSE(membership.Needs(HelloOf(2, "h")));
  // Who comes to a running service is a spare of a new id.
  proto::Hello any = HelloOf(0, "h");
  any.wanted_id.reset();
  EXPECT_EQ(*membership.OnHello({9}, any, At(2)), WorkerId{4});
  EXPECT_TRUE(membership.IsSpare({4}));
  membership.Remove({4});
  EXPECT_EQ(*membership.OnHello({10}, any, At(3)), WorkerId{5});
}

TEST(Membership, WhoLeavesIsNotPlannedWith) {
  Membership membership = WithThree();
  membership.SetLeaving({2}, true, At(1));
  EXPECT_EQ(membership.profile().workers.size(), 2u);
  EXPECT_TRUE(membership.Leavers(At(1.2), milliseconds(300)).empty());
  membership.SetLeaving({2}, true, At(1.2));  // said again
  EXPECT_EQ(membership.Leavers(At(1.3), milliseconds(300)), std::vector<WorkerId>{{2}});
  membership.SetLeaving({2}, false, At(2));
  EXPECT_TRUE(membership.Leavers(At(9), milliseconds(300)).empty());
  EXPECT_EQ(membership.profile().workers.size(), 3u);
}

TEST(Membership, OnlyAFreeExpectedIdIsNeeded) {
  Membership membership(ThreeWorkers(), At(0));
  ASSERT_TRUE(membership.OnHello({1}, HelloOf(1, "a"), At(0)).ok());
  EXPECT_TRUE(membership.Needs(HelloOf(2, "b")));
  EXPECT_FALSE(membership.Needs(HelloOf(1, "b")));  // taken
  EXPECT_FALSE(membership.Needs(HelloOf(9, "b")));
  proto::Hello any = HelloOf(0, "b");
  any.wanted_id.reset();
  EXPECT_FALSE(membership.Needs(any));  // another can come in its place
}

TEST(Membership, StepTimesAddUpPerStage) {
  Membership membership = WithThree();
  placement::Plan plan;
  plan.stages = {{.lead = {3}, .layers = {0, 2, true, false}},
                 {.lead = {1}, .layers = {2, 5, false, true}}};
  membership.OnPlan(plan, At(1));
  membership.OnStepTimes({100, 20});
  membership.OnStepTimes({300});  // a stage that did not say
  const std::vector<WorkerStatus> statuses = membership.Statuses(At(2));
  EXPECT_EQ(statuses[2].step_us_total, 400u);
  EXPECT_EQ(statuses[2].last_step_us, 300u);
  EXPECT_EQ(statuses[0].step_us_total, 20u);
  EXPECT_EQ(statuses[1].step_us_total, 0u);  // spare
}

TEST(Membership, HeartbeatsCarryTheShareOfTimeSpentComputing) {
  Membership membership = WithThree();
  ASSERT_TRUE(membership.OnHeartbeat({101}, {.compute_us = 100000}, At(1)).ok());
  ASSERT_TRUE(
      membership
          .OnHeartbeat(
              {101}, {.steps_done = 4, .compute_us = 350000, .stale_frames = 2, .kv_pages_used = 7},
              At(1.5))
          .ok());
  const WorkerStatus status = membership.Statuses(At(1.5))[0];
  EXPECT_NEAR(status.busy_fraction, 0.5, 1e-9);
  EXPECT_EQ(status.kv_pages_used, 7);
  EXPECT_EQ(status.steps_done, 4u);
  EXPECT_EQ(status.stale_frames, 2u);
}

}  // namespace
}  // namespace thermocline::coordinator
