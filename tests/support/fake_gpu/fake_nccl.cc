// NCCL's side of the fake: members are threads of this process, which meet by the bytes of an id.
// As in NCCL, the operations of a communicator are done one after the other, whatever their
// streams, a send ends when its receiver takes it, and the first of two members to send or receive
// has to wait for the other's before its call is through.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "comm/nccl_abi.h"
#include "tests/support/fake_gpu/fake_state.h"
#include "tests/support/fake_gpu/fake_stream.h"

namespace {

using namespace thermocline;
using namespace thermocline::comm;
using thermocline::testing::CurrentFaults;
using thermocline::testing::FakeGpuFaults;
using thermocline::testing::FakeStream;

std::mutex mutex;  // of all that follows
std::condition_variable changed;
FakeGpuFaults faults;
int n_ids = 0, n_live = 0, n_aborted = 0, n_sends = 0;

// One collective at all members.
struct Round {
  std::vector<std::pair<const void*, void*>> buffers;  // from and to, by rank
  int n_here = 0, n_done = 0;
};

struct Meeting {
  std::vector<bool> here;
  bool is_lost = false;  // a member has ended in the middle
  int n_connected = 0;   // members that have sent or received
  std::map<uint64_t, Round> rounds;
  // What a sender offers to a receiver, by their ranks: null when there is nothing.
  std::map<std::pair<int, int>, const void*> offers;

  bool complete() const { return std::find(here.begin(), here.end(), false) == here.end(); }
};
std::map<std::string, std::shared_ptr<Meeting>> meetings;

struct Comm {
  std::shared_ptr<Meeting> meeting;
  int rank = 0;
  uint64_t n_begun = 0, n_done = 0;  // operations
  uint64_t n_together = 0;           // of them those of all members
  bool aborted = false;
  bool finalized = false;
  bool connects = false;  // has sent or received
};
using CommHandle = std::shared_ptr<Comm>;

CommHandle CommOf(void* comm) { return *static_cast<CommHandle*>(comm); }

// Waits until `condition` or the communicator's end; false for its end.
template <typename Condition>
bool AwaitOr(std::unique_lock<std::mutex>& lock, const Comm& comm, Condition condition) {
  changed.wait(lock, [&] { return comm.aborted || condition(); });
  return !comm.aborted;
}

// Puts `work`, which is called with the lock, on the stream; in the order of the communicator.
template <typename Work>
int Enqueue(void* comm, void* stream, Work work) {
  if (stream == nullptr) return kNcclInvalidUsage;
  const CommHandle handle = CommOf(comm);
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex);
    number = handle->n_begun++;
  }
  static_cast<FakeStream*>(stream)->Add([handle, number, work] {
    std::unique_lock lock(mutex);
    if (!AwaitOr(lock, *handle, [&] { return handle->n_done == number && !faults.work_hangs; })) {
      return;
    }
    work(lock, *handle);
    ++handle->n_done;
    changed.notify_all();
  });
  // As a communicator that does not block often does.
  return kNcclInProgress;
}

// A ring that each element enters at another member.
void AddAll(const Round& round, size_t n_elems) {
  const size_t n = round.buffers.size();
  std::vector<double> sums(n_elems);
  for (size_t i = 0; i < n_elems; ++i) {
    for (size_t k = 0; k < n; ++k) {
      sums[i] += static_cast<const double*>(round.buffers[(i + k) % n].first)[i];
    }
  }
  for (const auto& [from, to] : round.buffers) {
    std::copy(sums.begin(), sums.end(), static_cast<double*>(to));
  }
}

// All members bring their buffers; the last one does the work.
template <typename Work>
void Collective(std::unique_lock<std::mutex>& lock, Comm& comm, const void* from, void* to,
                Work work) {
  Meeting& meeting = *comm.meeting;
  const uint64_t number = comm.n_together++;
  Round& round = meeting.rounds[number];
  round.buffers.resize(meeting.here.size());
  round.buffers[static_cast<size_t>(comm.rank)] = {thermocline::testing::MemoryAt(from),
                                                   thermocline::testing::MemoryAt(to)};
  if (++round.n_here == static_cast<int>(meeting.here.size())) work(round);
  changed.notify_all();
  const bool done =
      AwaitOr(lock, comm, [&] { return round.n_here == static_cast<int>(meeting.here.size()); });
  if (!done) {
    round.buffers[static_cast<size_t>(comm.rank)] = {};
    --round.n_here;  // nobody else can finish it
  } else if (++round.n_done == round.n_here) {
    meeting.rounds.erase(number);
  }
}

void Connect(void* comm) {
  const CommHandle handle = CommOf(comm);
  const std::lock_guard lock(mutex);
  if (!handle->connects) ++handle->meeting->n_connected;
  handle->connects = true;
}

bool IsConnecting(const Comm& comm) {
  return comm.connects && comm.meeting->n_connected < static_cast<int>(comm.meeting->here.size());
}

size_t BytesOf(size_t n_elems, int type) { return n_elems * (type == kNcclFloat64 ? 8 : 1); }

}  // namespace

namespace thermocline::testing {

FakeGpuFaults CurrentFaults() {
  const std::lock_guard lock(mutex);
  return faults;
}

}  // namespace thermocline::testing

extern "C" {

void tc_fake_gpu_set_faults(const FakeGpuFaults* wanted) {
  const std::lock_guard lock(mutex);
  faults = *wanted;
  changed.notify_all();
}
int tc_fake_gpu_live_comms() {
  const std::lock_guard lock(mutex);
  return n_live;
}
int tc_fake_gpu_aborted_comms() {
  const std::lock_guard lock(mutex);
  return n_aborted;
}
int tc_fake_gpu_sends() {
  const std::lock_guard lock(mutex);
  return n_sends;
}

int ncclGetVersion(int* version) {
  *version = CurrentFaults().nccl_version;
  return 0;
}
const char* ncclGetErrorString(int code) {
  return code == kNcclRemoteError ? "remote process exited" : "error of the fake";
}
const char* ncclGetLastError(void*) { return "the last word"; }
int ncclGetUniqueId(NcclId* id) {
  const std::lock_guard lock(mutex);
  *id = {};
  std::snprintf(id->bytes, sizeof id->bytes, "meeting %d", ++n_ids);
  return 0;
}
int ncclCommInitRankConfig(void** comm, int n_ranks, NcclId id, int rank, NcclConfig* config) {
  if (config->magic != kNcclConfigMagic || config->blocking != 0) return kNcclInvalidArgument;
  const std::lock_guard lock(mutex);
  auto& meeting = meetings[std::string(id.bytes, sizeof id.bytes)];
  if (meeting == nullptr) meeting = std::make_shared<Meeting>();
  if (meeting->here.empty()) meeting->here.resize(static_cast<size_t>(n_ranks));
  const auto place = static_cast<size_t>(rank);
  if (meeting->here.size() != static_cast<size_t>(n_ranks) || meeting->here[place]) {
    return kNcclInvalidUsage;
  }
  meeting->here[place] = true;
  *comm = new CommHandle(std::make_shared<Comm>(Comm{.meeting = meeting, .rank = rank}));
  ++n_live;
  return kNcclInProgress;
}
int ncclCommGetAsyncError(void* comm, int* state) {
  const CommHandle handle = CommOf(comm);
  const std::lock_guard lock(mutex);
  const bool met = handle->meeting->complete() && !faults.nobody_comes;
  const bool is_faulty = faults.async_rank < 0 || faults.async_rank == handle->rank;
  *state = !met ? faults.init_error != 0 ? faults.init_error : kNcclInProgress
           : faults.async_error != 0 && is_faulty ? faults.async_error
           : handle->meeting->is_lost             ? kNcclRemoteError
                                                  : kNcclSuccess;
  // It ends when its work has been done.
  const bool is_ending = handle->finalized && handle->n_done < handle->n_begun;
  if (*state == kNcclSuccess && (is_ending || IsConnecting(*handle))) *state = kNcclInProgress;
  return 0;
}
int ncclCommFinalize(void* comm) {
  const CommHandle handle = CommOf(comm);
  const std::lock_guard lock(mutex);
  handle->finalized = true;
  return kNcclInProgress;
}
int ncclCommDestroy(void* comm) {
  const std::lock_guard lock(mutex);
  delete static_cast<CommHandle*>(comm);
  --n_live;
  return 0;
}
int ncclCommAbort(void* comm) {
  const std::lock_guard lock(mutex);
  const CommHandle handle = CommOf(comm);
  handle->aborted = handle->meeting->is_lost = true;
  delete static_cast<CommHandle*>(comm);
  --n_live;
  ++n_aborted;
  changed.notify_all();
  return 0;
}
int ncclAllReduce(const void* from, void* to, size_t n_elems, int type, int, void* comm,
                  void* stream) {
  if (type != kNcclFloat64) return kNcclInvalidArgument;
  return Enqueue(comm, stream, [=](auto& lock, Comm& own) {
    Collective(lock, own, from, to, [&](const Round& round) { AddAll(round, n_elems); });
  });
}
int ncclBroadcast(const void* from, void* to, size_t n_elems, int type, int root, void* comm,
                  void* stream) {
  return Enqueue(comm, stream, [=](auto& lock, Comm& own) {
    Collective(lock, own, from, to, [&](const Round& round) {
      for (const auto& [unused, out] : round.buffers) {
        std::memmove(out, round.buffers[static_cast<size_t>(root)].first, BytesOf(n_elems, type));
      }
    });
  });
}
int ncclSend(const void* from, size_t, int, int peer, void* comm, void* stream) {
  Connect(comm);
  return Enqueue(comm, stream, [=](auto& lock, Comm& own) {
    const void*& offer = own.meeting->offers[{own.rank, peer}];
    offer = thermocline::testing::MemoryAt(from);
    ++n_sends;
    changed.notify_all();
    if (!AwaitOr(lock, own, [&] { return offer == nullptr; })) offer = nullptr;
  });
}
int ncclRecv(void* to, size_t n_elems, int type, int peer, void* comm, void* stream) {
  Connect(comm);
  return Enqueue(comm, stream, [=](auto& lock, Comm& own) {
    const void*& offer = own.meeting->offers[{peer, own.rank}];
    if (!AwaitOr(lock, own, [&] { return offer != nullptr; })) return;
    std::memcpy(thermocline::testing::MemoryAt(to), offer, BytesOf(n_elems, type));
    offer = nullptr;
    changed.notify_all();
  });
}

}  // extern "C"
