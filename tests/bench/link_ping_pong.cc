// What a hop between two workers costs beside a bare exchange of the same bytes over the same
// transport: MPI_Send and MPI_Recv, or a pair of ZeroMQ sockets with CURVE. No test: prints a
// table.
//   mpirun -n 2 link_ping_pong         MPI, between two processes
//   link_ping_pong                     ZeroMQ over TCP loopback, between two threads
#include <mpi.h>
#include <zmq.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "comm/cluster_key.h"
#include "comm/data_ports.h"
#include "comm/mpi_runtime.h"

namespace thermocline {
namespace {

constexpr int kWarmUps = 20;
constexpr int kRounds = 9;  // of each kind in turns; the median round counts
constexpr int kTripsPerRound = 200;
// A token of a model of 2048 columns in F32, 4 of them, a chunk of 64, and nothing but a header.
constexpr size_t kSizes[] = {4, 8u << 10, 32u << 10, 512u << 10};

// One way to exchange bytes: `trip` sends and receives, or, at the echo's end, receives and sends.
struct Way {
  std::function<void(std::vector<std::byte>&)> trip;
};

[[noreturn]] void Fail(const std::string& what) {
  std::cerr << what << "\n";
  std::exit(1);
}

void Require(const Status& status) {
  if (!status.ok()) Fail(std::string(status.message()));
}

double MicrosecondsPerTrip(const Way& way, std::vector<std::byte>& bytes) {
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  for (int i = 0; i < kTripsPerRound; ++i) way.trip(bytes);
  return Seconds(clock.Now() - begin) * 1e6 / kTripsPerRound;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Both ends run this in step; the one that leads prints.
void Compare(bool leads, const char* transport, const Way& bare, const Way& link) {
  if (leads)
    std::printf("| transport | bytes | bare, us | link, us | ratio |\n|---|---:|---:|---:|---:|\n");
  for (const size_t size : kSizes) {
    std::vector<std::byte> bytes(size);
    std::vector<double> of_bare, of_link;
    for (int i = 0; i < kWarmUps; ++i) bare.trip(bytes), link.trip(bytes);
    for (int round = 0; round < kRounds; ++round) {
      of_bare.push_back(MicrosecondsPerTrip(bare, bytes));
      of_link.push_back(MicrosecondsPerTrip(link, bytes));
    }
    const double bare_us = Median(of_bare), link_us = Median(of_link);
    if (leads) {
      std::printf("| %s | %zu | %.1f | %.1f | %.2f |\n", transport, size, bare_us, link_us,
                  link_us / bare_us);
    }
  }
}

Way LinkWay(comm::Link* link, bool leads) {
  const auto send = [link](const std::vector<std::byte>& bytes) {
    static constexpr std::byte kHeader[32] = {};
    Require(link->Send({kHeader, bytes}, SteadyClock().Now() + std::chrono::seconds(10)));
  };
  const auto receive = [link, frame = std::make_shared<comm::Frame>()] {
    Require(link->Receive(frame.get(), SteadyClock().Now() + std::chrono::seconds(10)));
  };
  if (leads) return {[=](std::vector<std::byte>& bytes) { send(bytes), receive(); }};
  return {[=](std::vector<std::byte>& bytes) { receive(), send(bytes); }};
}

Way MpiWay(int peer, bool leads) {
  const auto send = [peer](std::vector<std::byte>& bytes) {
    MPI_Send(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, peer, 1, MPI_COMM_WORLD);
  };
  const auto receive = [peer](std::vector<std::byte>& bytes) {
    MPI_Recv(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, peer, 1, MPI_COMM_WORLD,
             MPI_STATUS_IGNORE);
  };
  if (leads) return {[=](std::vector<std::byte>& bytes) { send(bytes), receive(bytes); }};
  return {[=](std::vector<std::byte>& bytes) { receive(bytes), send(bytes); }};
}

void RunMpi(comm::MpiRuntime& runtime) {
  if (runtime.size() != 2) Fail("start it with mpirun -n 2");
  const bool leads = runtime.rank() == 0;
  const int peer = 1 - runtime.rank();
  const auto port = runtime.MakeDataPort();
  auto link = port->Open(WorkerId{static_cast<uint64_t>(peer)}, "mpi:" + std::to_string(peer));
  Require(link.status());
  Compare(leads, "mpi", MpiWay(peer, leads), LinkWay(link->get(), leads));
  MPI_Barrier(MPI_COMM_WORLD);
}

// Two sockets that CURVE joins over TCP; each thread has one.
class BarePair {
 public:
  BarePair() : context_(zmq_ctx_new()) {
    std::array<char, 41> server_public{}, server_secret{}, client_public{}, client_secret{};
    zmq_curve_keypair(server_public.data(), server_secret.data());
    zmq_curve_keypair(client_public.data(), client_secret.data());
    for (void*& socket : sockets_) socket = zmq_socket(context_, ZMQ_PAIR);
    constexpr int kIsServer = 1;
    zmq_setsockopt(sockets_[0], ZMQ_CURVE_SERVER, &kIsServer, sizeof kIsServer);
    zmq_setsockopt(sockets_[0], ZMQ_CURVE_SECRETKEY, server_secret.data(), 41);
    zmq_setsockopt(sockets_[1], ZMQ_CURVE_SERVERKEY, server_public.data(), 41);
    zmq_setsockopt(sockets_[1], ZMQ_CURVE_PUBLICKEY, client_public.data(), 41);
    zmq_setsockopt(sockets_[1], ZMQ_CURVE_SECRETKEY, client_secret.data(), 41);
    std::array<char, 256> endpoint{};
    size_t length = endpoint.size();
    if (zmq_bind(sockets_[0], "tcp://127.0.0.1:*") != 0 ||
        zmq_getsockopt(sockets_[0], ZMQ_LAST_ENDPOINT, endpoint.data(), &length) != 0 ||
        zmq_connect(sockets_[1], endpoint.data()) != 0) {
      Fail("no pair of ZeroMQ sockets");
    }
  }
  ~BarePair() {
    for (void* socket : sockets_) zmq_close(socket);
    zmq_ctx_term(context_);
  }
  BarePair(const BarePair&) = delete;
  BarePair& operator=(const BarePair&) = delete;

  Way WayOf(int end) {
    void* const socket = sockets_[static_cast<size_t>(end)];
    const auto send = [socket](const std::vector<std::byte>& bytes) {
      if (zmq_send(socket, bytes.data(), bytes.size(), 0) < 0) Fail("zmq_send");
    };
    const auto receive = [socket](std::vector<std::byte>& bytes) {
      if (zmq_recv(socket, bytes.data(), bytes.size(), 0) < 0) Fail("zmq_recv");
    };
    if (end == 0) return {[=](std::vector<std::byte>& bytes) { send(bytes), receive(bytes); }};
    return {[=](std::vector<std::byte>& bytes) { receive(bytes), send(bytes); }};
  }

 private:
  void* const context_;
  std::array<void*, 2> sockets_{};
};

void RunZmq() {
  const comm::ClusterKey key = comm::ClusterKey::Generate();
  std::array<std::unique_ptr<comm::DataPort>, 2> ports;
  std::array<std::unique_ptr<comm::Link>, 2> links;
  for (uint64_t i = 0; i < 2; ++i) {
    auto port = comm::MakeZmqDataPort({.key = key, .self = WorkerId{i}});
    Require(port.status());
    ports[i] = std::move(*port);
  }
  for (uint64_t i = 0; i < 2; ++i) {
    auto link = ports[i]->Open(WorkerId{1 - i}, ports[1 - i]->address());
    Require(link.status());
    links[i] = std::move(*link);
  }
  BarePair bare;
  std::thread echo([&] { Compare(false, "", bare.WayOf(1), LinkWay(links[1].get(), false)); });
  Compare(true, "zmq", bare.WayOf(0), LinkWay(links[0].get(), true));
  echo.join();
}

}  // namespace
}  // namespace thermocline

int main() {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr) {
    thermocline::RunZmq();
    return 0;
  }
  auto runtime = thermocline::comm::StartMpi();
  thermocline::Require(runtime.status());
  thermocline::RunMpi(**runtime);
  return 0;
}
