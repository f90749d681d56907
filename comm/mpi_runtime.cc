#include "comm/mpi_runtime.h"

#include <mpi.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "comm/backoff.h"
#include "comm/mpi_link.h"

namespace thermocline::comm {
namespace {

// What rank 0 tells at start-up is addresses and a key: kilobytes.
constexpr uint64_t kMaxBroadcastBytes = uint64_t{16} << 20;
// Rank 0 may be slow to come up (a cold file system); a rank that died before is noticed by mpirun.
constexpr Duration kBroadcastTimeout = std::chrono::seconds(120);

class MpiRuntimeImpl final : public MpiRuntime {
 public:
  explicit MpiRuntimeImpl(MPI_Comm comm) : comm_(comm) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }

  // With transfers left, a peer is dead or stuck, and finalising could wait for it for ever.
  ~MpiRuntimeImpl() override {
    if (abandoned_) return;
    if (!healthy_ || !parking_.Drain(SteadyClock().Now())) {
      LogWarn("comm", Str("mpi is left without finalising: a peer did not take its messages",
                          Kv("rank", rank_)));
      return;
    }
    MPI_Comm_free(&comm_);
    MPI_Finalize();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  Result<std::string> BroadcastFromRankZero(const std::string& bytes) override {
    uint64_t n_bytes = rank_ == 0 ? bytes.size() : 0;
    TC_RETURN_IF_ERROR(Broadcast(&n_bytes, sizeof(n_bytes)));
    if (n_bytes > kMaxBroadcastBytes) {
      return InvalidArgument(
          Str("broadcast over its limit:", Kv("bytes", n_bytes), Kv("limit", kMaxBroadcastBytes)));
    }
    std::string received = rank_ == 0 ? bytes : std::string(n_bytes, '\0');
    TC_RETURN_IF_ERROR(Broadcast(received.data(), received.size()));
    return received;
  }

  std::unique_ptr<DataPort> MakeDataPort() override { return MakeMpiDataPort(comm_, &parking_); }

  void Abandon() override { abandoned_ = true; }

 private:
  // kDeadlineExceeded when some rank does not take part; the runtime is then of no further use.
  Status Broadcast(void* data, size_t n_bytes) {
    auto transfer = std::make_unique<MpiTransfer>();
    transfer->bytes.assign(static_cast<std::byte*>(data), static_cast<std::byte*>(data) + n_bytes);
    TC_RETURN_IF_ERROR(MpiStatus(MPI_Ibcast(transfer->bytes.data(), static_cast<int>(n_bytes),
                                            MPI_BYTE, 0, comm_, &transfer->requests[0]),
                                 "cannot broadcast"));
    const TimePoint deadline = SteadyClock().Now() + kBroadcastTimeout;
    Backoff backoff;
    while (true) {
      TC_ASSIGN_OR_RETURN(const bool done, transfer->Done());
      if (done) break;
      if (backoff.Pause(deadline)) continue;
      parking_.Park(std::move(transfer));
      healthy_ = false;
      return DeadlineExceeded(Str("rank 0 was not heard in time:", Kv("rank", rank_)));
    }
    std::copy(transfer->bytes.begin(), transfer->bytes.end(), static_cast<std::byte*>(data));
    return OkStatus();
  }

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 0;
  bool healthy_ = true;
  bool abandoned_ = false;
  MpiParking parking_;
};

}  // namespace

Result<std::unique_ptr<MpiRuntime>> StartMpi() {
  int already = 0;
  MPI_Initialized(&already);
  if (already) return Unavailable("MPI was started before in this process");
  // Open MPI writes to the sockets of dead ranks; that must be an error there, not a signal.
  std::signal(SIGPIPE, SIG_IGN);
  int provided = MPI_THREAD_SINGLE;
  TC_RETURN_IF_ERROR(MpiStatus(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided),
                               "cannot start MPI"));
  // Errors become return values, which survivors of a dead rank need.
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  if (provided < MPI_THREAD_SERIALIZED) {
    MPI_Finalize();
    return Unavailable("this MPI allows calls from one thread only");
  }
  MPI_Comm comm = MPI_COMM_NULL;
  TC_RETURN_IF_ERROR(MpiStatus(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "cannot start MPI"));
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  return std::unique_ptr<MpiRuntime>(std::make_unique<MpiRuntimeImpl>(comm));
}

}  // namespace thermocline::comm
