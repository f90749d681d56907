// Three ranks, of which rank 2 is killed: its peers learn by their deadlines, go on talking to one
// another, and end. Prints one line and exits 0 at rank 0 and 1 when that is so.
#include <signal.h>
#include <unistd.h>

#include <iostream>
#include <string>

#include "base/check.h"
#include "comm/mpi_runtime.h"
#include "tests/support/frames.h"
#include "tests/support/patience.h"

namespace {

using namespace thermocline;        // NOLINT: a test program
using namespace thermocline::comm;  // NOLINT
using std::chrono::milliseconds;
using thermocline::testing::In;
using thermocline::testing::kPatience;
using thermocline::testing::MakeFrame;
using thermocline::testing::Now;
using thermocline::testing::SameFrame;
using thermocline::testing::ViewOf;

std::unique_ptr<Link> Open(DataPort& port, int rank) {
  const auto peer = static_cast<uint64_t>(rank);
  return std::move(port.Open(WorkerId{peer}, "mpi:" + std::to_string(rank))).value();
}

// Every rank hears every other once, so that all connections exist when rank 2 dies.
void Greet(Link& link) {
  CHECK(link.Send(ViewOf(MakeFrame(1, 10)), In(kPatience)).ok());
  Frame frame;
  CHECK(link.Receive(&frame, In(kPatience)).ok());
}

void ExpectDeadlineTowards(Link& dead) {
  Frame frame;
  CHECK(dead.Receive(&frame, In(milliseconds(50))).code() == StatusCode::kDeadlineExceeded);
  Status status;
  int n_sent = 0;
  while (status.ok() && n_sent++ < 1000) {
    const TimePoint begin = Now();
    status = dead.Send(ViewOf(MakeFrame(2, 1 << 20)), In(milliseconds(200)));
    CHECK(Now() - begin < kPatience);
  }
  CHECK(status.code() == StatusCode::kDeadlineExceeded ||
        status.code() == StatusCode::kUnavailable);
}

void ExpectAlive(Link& link, int rank) {
  Frame frame;
  for (uint64_t i = 0; i < 50; ++i) {
    if (rank == 0) CHECK(link.Send(ViewOf(MakeFrame(i, 200'000)), In(kPatience)).ok());
    CHECK(link.Receive(&frame, In(kPatience)).ok());
    CHECK(SameFrame(frame, MakeFrame(i, 200'000)));
    if (rank == 1) CHECK(link.Send(ViewOf(frame), In(kPatience)).ok());
  }
}

}  // namespace

int main() {
  auto runtime = StartMpi();
  CHECK(runtime.ok());
  const int rank = (*runtime)->rank();
  const auto port = (*runtime)->MakeDataPort();
  const auto first = Open(*port, rank == 0 ? 1 : 0);
  const auto second = Open(*port, rank == 2 ? 1 : 2);
  Greet(*first);
  Greet(*second);
  if (rank == 2) kill(getpid(), SIGKILL);
  ExpectDeadlineTowards(*second);
  ExpectAlive(*first, rank);
  std::cout << "rank " << rank << " survives\n";
  return 0;
}
