#include "comm/nccl_comm.h"

#include <cstring>
#include <utility>

#include "base/str.h"
#include "comm/backoff.h"

namespace thermocline::comm {
namespace {

// Long enough for live peers to end together, short enough to go unnoticed at exit.
constexpr Duration kLinger = std::chrono::milliseconds(500);

}  // namespace

Result<std::unique_ptr<NcclComm>> NcclComm::Join(const NcclLibrary& nccl, const Gpu& gpu,
                                                 const NcclPlace& place, TimePoint deadline) {
  if (place.id.size() != kNcclIdBytes || place.rank < 0 || place.rank >= place.n_ranks) {
    return InvalidArgument(Str("not a place to meet for GPUs:", Kv("id_bytes", place.id.size()),
                               Kv("rank", place.rank), Kv("ranks", place.n_ranks)));
  }
  NcclId id;
  std::memcpy(id.bytes, place.id.data(), sizeof id.bytes);
  std::unique_ptr<NcclComm> comm(new NcclComm(nccl, gpu, place.stop));
  TC_RETURN_IF_ERROR(gpu.Use());
  NcclConfig config;
  const int code = nccl.api().join(&comm->handle_, place.n_ranks, id, place.rank, &config);
  TC_RETURN_IF_ERROR(comm->Settle(code,
                                  Str("GPUs do not meet:", Kv("rank", place.rank),
                                      Kv("ranks", place.n_ranks), Kv("gpu", gpu.ordinal())),
                                  deadline));
  return comm;
}

NcclComm::~NcclComm() {
  if (handle_ == nullptr || !gpu_.Use().ok()) return;
  stop_ = nullptr;
  const int code = nccl_.api().finalize(handle_);
  if (!Settle(code, "cannot end", SteadyClock().Now() + kLinger).ok()) return;
  (void)nccl_.api().destroy(handle_);
}

Status NcclComm::Settle(int code, std::string_view what, TimePoint deadline) {
  Backoff backoff;
  while (code == kNcclInProgress) {
    int state = kNcclSuccess;
    code = nccl_.api().async_error(handle_, &state);
    if (code == kNcclSuccess) code = state;
    if (code == kNcclInProgress && is_stopped()) {
      return Abort(Aborted(Str("NCCL: ", what, ": stopped")));
    }
    if (code == kNcclInProgress && !backoff.Pause(deadline)) {
      return Abort(DeadlineExceeded(Str("NCCL: ", what, ": not in time")));
    }
  }
  if (code == kNcclSuccess) return OkStatus();
  return Abort(nccl_.ToStatus(code, what, handle_));
}

template <typename Call>
Status NcclComm::Run(std::string_view what, TimePoint deadline, Call call) {
  TC_RETURN_IF_ERROR(broken_);
  TC_RETURN_IF_ERROR(gpu_.Use());
  return Settle(call(nccl_.api()), what, deadline);
}

Status NcclComm::Sum(void* data, size_t n_elems, NcclType type, GpuStream stream,
                     TimePoint deadline) {
  return Run("cannot sum", deadline, [&](const NcclApi& api) {
    return api.all_reduce(data, data, n_elems, type, kNcclSum, handle_, stream);
  });
}

Status NcclComm::Broadcast(void* data, size_t n_bytes, int root, GpuStream stream,
                           TimePoint deadline) {
  return Run("cannot broadcast", deadline, [&](const NcclApi& api) {
    return api.broadcast(data, data, n_bytes, kNcclInt8, root, handle_, stream);
  });
}

Status NcclComm::Send(const void* data, size_t n_bytes, int peer, GpuStream stream,
                      TimePoint deadline) {
  return Run("cannot send", deadline, [&](const NcclApi& api) {
    return api.send(data, n_bytes, kNcclInt8, peer, handle_, stream);
  });
}

Status NcclComm::Receive(void* data, size_t n_bytes, int peer, GpuStream stream,
                         TimePoint deadline) {
  return Run("cannot receive", deadline, [&](const NcclApi& api) {
    return api.receive(data, n_bytes, kNcclInt8, peer, handle_, stream);
  });
}

Status NcclComm::Check() {
  TC_RETURN_IF_ERROR(broken_);
  int state = kNcclSuccess;
  int code = nccl_.api().async_error(handle_, &state);
  if (code == kNcclSuccess) code = state;
  if (code == kNcclSuccess || code == kNcclInProgress) return OkStatus();
  const bool is_others = code == kNcclRemoteError;
  return Abort(nccl_.ToStatus(
      code, is_others ? "a member or its GPU is lost" : "this member's GPU or system failed",
      handle_));
}

Status NcclComm::Await(const Gpu::Event& event, TimePoint deadline) {
  Backoff backoff;
  while (true) {
    TC_RETURN_IF_ERROR(Check());
    const Result<bool> passed = gpu_.HasPassed(event);
    if (!passed.ok()) return Abort(passed.status());
    if (*passed) return Check();
    if (is_stopped()) return Abort(Aborted("NCCL: stopped while members work"));
    if (!backoff.Pause(deadline)) {
      return Abort(
          DeadlineExceeded(Str("NCCL: members are not done in time:", Kv("gpu", gpu_.ordinal()))));
    }
  }
}

Status NcclComm::Abort(Status why) {
  if (broken_.ok()) broken_ = std::move(why);
  if (handle_ != nullptr && gpu_.Use().ok()) (void)nccl_.api().abort(handle_);
  handle_ = nullptr;
  return broken_;
}

}  // namespace thermocline::comm
