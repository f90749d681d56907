// What every Link must do, run on MPI's: mpirun starts two ranks, each of which is one end.
// Failures of either rank fail the whole.
#include <gtest/gtest.h>
#include <mpi.h>

#include <memory>

#include "comm/mpi_runtime.h"
#include "tests/support/frames.h"
#include "tests/support/link_conformance.h"

namespace thermocline::comm {
namespace {

using ::thermocline::testing::In;
using ::thermocline::testing::LinkCase;
using ::thermocline::testing::LinkConformanceCases;
using ::thermocline::testing::Now;

// Started by main before the tests; gtest has no way to hand it in.
MpiRuntime* runtime = nullptr;

class MpiLinkConformance : public ::testing::TestWithParam<LinkCase> {};

TEST_P(MpiLinkConformance, Case) {
  ASSERT_EQ(runtime->size(), 2);
  const int self = runtime->rank();
  const auto peer = static_cast<uint64_t>(1 - self);
  const auto port = runtime->MakeDataPort();
  EXPECT_EQ(port->address(), "mpi:" + std::to_string(self));
  const auto link = port->Open(WorkerId{peer}, "mpi:" + std::to_string(peer));
  ASSERT_TRUE(link.ok()) << link.status();
  GetParam().run({self, **link, [] { MPI_Barrier(MPI_COMM_WORLD); }});
  MPI_Barrier(MPI_COMM_WORLD);
}

INSTANTIATE_TEST_SUITE_P(All, MpiLinkConformance, ::testing::ValuesIn(LinkConformanceCases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(MpiRuntime, EveryRankHearsRankZero) {
  for (const size_t n_bytes : {0, 1, 100'000}) {
    const std::string said = runtime->rank() == 0 ? std::string(n_bytes, 'x') : "mine";
    const auto heard = runtime->BroadcastFromRankZero(said);
    ASSERT_TRUE(heard.ok()) << heard.status();
    EXPECT_EQ(*heard, std::string(n_bytes, 'x'));
  }
}

TEST(MpiRuntime, RefusesToStartTwice) {
  const auto again = StartMpi();
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.status().code(), StatusCode::kUnavailable);
}

TEST(MpiDataPort, RefusesAddressesOfNoOtherRank) {
  const auto port = runtime->MakeDataPort();
  for (const std::string& address :
       {std::string("mpi:2"), std::string("mpi:-1"), std::string("mpi:"), std::string("mpi:0x1"),
        std::string("tcp://127.0.0.1:1"), port->address()}) {
    const auto link = port->Open(WorkerId{1}, address);
    ASSERT_FALSE(link.ok()) << address;
    EXPECT_EQ(link.status().code(), StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace thermocline::comm

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  auto runtime = thermocline::comm::StartMpi();
  if (!runtime.ok()) {
    std::cerr << runtime.status() << "\n";
    return 1;
  }
  thermocline::comm::runtime = runtime->get();
  return RUN_ALL_TESTS();
}
