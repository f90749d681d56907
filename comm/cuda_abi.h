// What of the CUDA driver's C interface gpu.cc needs: declarations of our own, after its
// documentation (docs.nvidia.com, "CUDA Driver API"). Its calls return 0 for success.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thermocline::comm {

using CudaContext = void*;
using CudaStream = void*;
using CudaEvent = void*;
using CudaAddress = uint64_t;  // host memory has one too: all share one address space

inline constexpr int kCudaNotReady = 600;
inline constexpr int kCudaNoDevice = 100;
// An event that only tells whether it has passed costs less than one that takes the time.
inline constexpr unsigned kCudaEventNoTiming = 2;
// A stream that does not wait for the default one.
inline constexpr unsigned kCudaStreamNonBlocking = 1;

inline constexpr size_t kCudaUuidBytes = 16;
inline constexpr size_t kCudaPciBusIdBytes = 16;  // "0000:1b:00.0" and what ends it

struct CudaApi {
  int (*init)(unsigned);
  int (*error_name)(int, const char**);
  int (*device_count)(int*);
  int (*device)(int*, int ordinal);
  int (*device_uuid)(unsigned char* uuid, int device);
  int (*device_pci_bus_id)(char* id, int n_bytes, int device);
  int (*retain_context)(CudaContext*, int device);
  int (*release_context)(int device);
  int (*set_context)(CudaContext);
  int (*allocate)(CudaAddress*, size_t);
  int (*free)(CudaAddress);
  int (*allocate_pinned)(void**, size_t, unsigned flags);
  int (*free_pinned)(void*);
  int (*make_stream)(CudaStream*, unsigned flags);
  int (*destroy_stream)(CudaStream);
  int (*stream_wait)(CudaStream, CudaEvent, unsigned flags);
  int (*make_event)(CudaEvent*, unsigned flags);
  int (*destroy_event)(CudaEvent);
  int (*record_event)(CudaEvent, CudaStream);
  int (*query_event)(CudaEvent);
  int (*copy)(CudaAddress to, CudaAddress from, size_t, CudaStream);
};

}  // namespace thermocline::comm
