// What of NCCL's C interface comm/ needs: declarations of our own, after its documentation
// (docs.nvidia.com, "NVIDIA NCCL User Guide", "NCCL API"). Calls return one of NcclResult.
#pragma once

#include <cstddef>

namespace thermocline::comm {

using NcclHandle = void*;  // of a communicator

enum NcclResult : int {
  kNcclSuccess = 0,
  kNcclCudaError = 1,
  kNcclSystemError = 2,
  kNcclInternalError = 3,
  kNcclInvalidArgument = 4,
  kNcclInvalidUsage = 5,
  kNcclRemoteError = 6,
  kNcclInProgress = 7,
};

enum NcclType : int { kNcclInt8 = 0, kNcclFloat64 = 8 };
enum NcclOperation : int { kNcclSum = 0 };

inline constexpr size_t kNcclIdBytes = 128;
// Passed by value, as the C structure is.
struct NcclId {
  char bytes[kNcclIdBytes];
};

// The configuration of a communicator as NCCL 2.14 has it. Later versions take it as that and use
// their own defaults for what they have added since.
inline constexpr unsigned kNcclConfigMagic = 0xcafebeef;
inline constexpr int kNcclConfigVersion = 21400;
struct NcclConfig {
  size_t n_bytes = sizeof(NcclConfig);
  unsigned magic = kNcclConfigMagic;
  unsigned version = kNcclConfigVersion;
  int blocking = 0;
};

struct NcclApi {
  int (*version)(int*);
  const char* (*error_text)(int);
  const char* (*last_error)(NcclHandle);
  int (*make_id)(NcclId*);
  int (*join)(NcclHandle*, int n_ranks, NcclId, int rank, NcclConfig*);
  int (*async_error)(NcclHandle, int*);
  int (*finalize)(NcclHandle);
  int (*destroy)(NcclHandle);
  int (*abort)(NcclHandle);
  int (*all_reduce)(const void* from, void* to, size_t n_elems, int type, int operation, NcclHandle,
                    void* stream);
  int (*broadcast)(const void* from, void* to, size_t n_elems, int type, int root, NcclHandle,
                   void* stream);
  int (*send)(const void* from, size_t n_elems, int type, int peer, NcclHandle, void* stream);
  int (*receive)(void* to, size_t n_elems, int type, int peer, NcclHandle, void* stream);
};

}  // namespace thermocline::comm
