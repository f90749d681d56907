// Writes a GGUF v3 file (or one in PowerInfer's dialect) without holding its weights: the header
// first, then each tensor's bytes in any order and in pieces of any size.
//
//   TC_ASSIGN_OR_RETURN(auto writer, GgufWriter::Create(path, dialect, metadata, tensors));
//   TC_RETURN_IF_ERROR(writer->Put(tensor, offset_bytes, bytes));   // until every byte is there
//   TC_RETURN_IF_ERROR(writer->Finish());
//
// Source of the layout: github.com/ggml-org/ggml docs/gguf.md; tensors lie in the order of their
// infos, each padded to the alignment, without other gaps, as upstream's loader wants them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/gguf.h"
#include "model/gguf_metadata.h"

namespace thermocline::model {

// A tensor that is to be written; `shape` is outermost first.
struct GgufTensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  int64_t n_cols() const { return shape.back(); }
  int64_t n_rows() const;
  uint64_t size_bytes() const;
};

// Owns a temporary file beside the target, which Finish renames to it and the destructor otherwise
// removes: the target appears whole or not at all. Put may be called by several threads at once for
// disjoint bytes; the rest is thread-compatible.
class GgufWriter {
 public:
  // Writes the header and reserves the room of the whole file where the file system can.
  // kInvalidArgument: a tensor that the format or the dialect cannot hold, or one named twice;
  // kResourceExhausted: no room; kNotFound: no such folder; kUnavailable: other errors of the
  // system.
  static Result<std::unique_ptr<GgufWriter>> Create(const std::string& path, GgufDialect dialect,
                                                    const GgufMetadata& metadata,
                                                    std::vector<GgufTensorSpec> tensors);
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  const std::vector<GgufTensorSpec>& tensors() const { return tensors_; }
  // kNotFound when no tensor has that name.
  Result<size_t> IndexOf(std::string_view name) const;
  uint64_t file_bytes() const { return file_bytes_; }

  // Writes bytes [offset, offset + size) of a tensor; every byte of a tensor is written once.
  // kInvalidArgument: beyond the tensor's end; kResourceExhausted: no room; kUnavailable.
  Status Put(size_t tensor, uint64_t offset_bytes, std::span<const std::byte> bytes);
  // Closes the file and gives it its name, replacing what was there. kInvalidArgument names a
  // tensor of which bytes are missing; the codes of Put.
  Status Finish();

 private:
  explicit GgufWriter(std::string path) : path_(std::move(path)) {}
  Status CheckTensors(GgufDialect dialect) const;
  void PlaceTensors();
  Status OpenTemporary();
  Status Reserve();
  Status WriteAt(uint64_t offset_bytes, std::span<const std::byte> bytes);
  std::string Header(GgufDialect dialect, const GgufMetadata& metadata) const;
  Status SystemError(std::string_view fact, int error) const;

  const std::string path_;
  std::string temporary_path_;  // "" once it has its name or was never made
  int fd_ = -1;
  std::vector<GgufTensorSpec> tensors_;
  std::vector<uint64_t> offsets_;  // in the data section
  std::vector<std::atomic<uint64_t>> n_written_;
  uint64_t data_begin_ = 0;
  uint64_t file_bytes_ = 0;
};

}  // namespace thermocline::model
