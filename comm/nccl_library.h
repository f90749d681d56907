// NVIDIA's library of collectives between GPUs, loaded at run time: a build needs nothing of it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "comm/nccl_abi.h"

namespace thermocline::comm {

inline constexpr char kNcclLibrary[] = "libnccl.so.2";
// The first with communicators whose calls do not block, so that each wait can have its deadline.
inline constexpr int kMinNcclVersion = 21400;  // 2.14

struct NcclOptions {
  std::string library = kNcclLibrary;
  // All members are on this host. NCCL's own wires carry no key, so they are on the loopback
  // interface then (NCCL_SOCKET_IFNAME=lo); otherwise on the one that NCCL or the user chooses,
  // where everybody must be trusted.
  bool one_host = true;
};

// Owns the loaded library; communicators must not outlive it. Thread-safe.
class NcclLibrary {
 public:
  // kUnavailable says what is missing and what to install: the library, a function, a version.
  //
  // Sets NCCL_ALGO=Ring for this process: sums of a ring are added in an order that follows from
  // members, sizes and wiring alone, while those inside NVLink switches have none that is promised.
  // Where the environment has a choice already it stays; NCCL reads it once. Before other threads
  // run.
  static Result<std::unique_ptr<NcclLibrary>> Load(const NcclOptions& options);

  std::string version() const;  // "2.28.9"
  const NcclApi& api() const { return api_; }
  // A place for the members of one communicator to meet, kNcclIdBytes of it; it is of this process
  // and passes with it. Errors as ToStatus.
  Result<std::string> MakeId() const;
  // NCCL's code in words, with its own last word on `comm`, which may be null. kUnavailable:
  // a peer is gone, or the network to it; kInvalidArgument: a use that NCCL does not allow, as of
  // one GPU by two members; kInternal otherwise: a failure of this process, its GPU or its system.
  Status ToStatus(int code, std::string_view what, NcclHandle comm) const;

 private:
  struct CloseLibrary {
    void operator()(void* library) const;
  };

  NcclLibrary() = default;
  Status FindAll();
  Status CheckVersion();

  std::unique_ptr<void, CloseLibrary> library_;
  NcclApi api_{};
  int version_ = 0;
};

}  // namespace thermocline::comm
