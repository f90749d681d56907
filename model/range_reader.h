// Where model bytes come from: a file on disk now, a peer or an object store later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"

namespace thermocline::model {

// Random access to the bytes of one model file. Thread-safe after construction.
class RangeReader {
 public:
  virtual ~RangeReader() = default;
  virtual uint64_t size_bytes() const = 0;
  // A name for messages: usually the path.
  virtual const std::string& name() const = 0;
  // Copies [offset, offset + out.size()) into `out`. kInvalidArgument when the range leaves the
  // file; kDataLoss or kUnavailable when the bytes cannot be read.
  virtual Status Read(uint64_t offset_bytes, std::span<std::byte> out) const = 0;
  // The whole file as memory, or an empty span when this reader cannot map.
  virtual std::span<const std::byte> Mapping() const { return {}; }
  // Lets go of the memory of pages wholly inside [offset, offset + n_bytes), which are read again
  // when touched. Does nothing where the bytes have no other home.
  virtual void Evict(uint64_t /*offset_bytes*/, uint64_t /*n_bytes*/) const {}
};

// A read-only memory mapping of a regular file. Only touched pages become resident.
// kNotFound: no such file; kInvalidArgument: a directory or empty; kUnavailable: cannot be opened.
Result<std::unique_ptr<RangeReader>> OpenMappedFile(const std::string& path);

// Bytes that are already in memory; `bytes` must outlive the reader. For tests and fuzz targets.
std::unique_ptr<RangeReader> ReadFromMemory(std::span<const std::byte> bytes, std::string name);

}  // namespace thermocline::model
