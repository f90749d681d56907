// A model to convert: its metadata and where each tensor's values lie in mapped files.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "model/gguf.h"
#include "model/gguf_metadata.h"
#include "model/range_reader.h"

namespace thermocline::tools {

// A tensor under its GGUF name, with what happens to its values on the way. The view borrows from
// a file, or from `own_values`, of the SourceModel.
struct SourceTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  // [product of all but the last dimension, last dimension]; a vector whose values change places is
  // [length, 1].
  TensorView view;
  // Rows of every head go from halves (x_i with x_{i + d/2}) to neighbours (x_2i with x_2i+1): how
  // llama's rope pairs them in GGUF. 0: rows stay where they are.
  int64_t interleave_head_dim = 0;
  float add = 0;  // nemotron stores its norms less 1

  DType dtype() const { return view.dtype; }
  bool changes_values() const { return interleave_head_dim != 0 || add != 0; }
};

// Owns the files that its tensors borrow from. Immutable once built, so thread-safe.
struct SourceModel {
  model::GgufDialect dialect = model::GgufDialect::kGguf;
  std::string arch;
  model::GgufMetadata metadata;
  std::vector<SourceTensor> tensors;
  std::vector<std::string> notes;  // what the user should know about the conversion
  std::vector<std::unique_ptr<model::RangeReader>> files;
  std::vector<std::unique_ptr<std::vector<float>>> own_values;  // of tensors that no file holds
};

// Opens a GGUF file or a folder of safetensors. The codes of OpenMappedFile, GgufFile::Parse and
// OpenCheckpoint.
Result<SourceModel> OpenSource(const std::string& path);

// Rows [first, first + n) of the tensor as F32, one after the other; a vector is one row, whole.
void ReadRows(const SourceTensor& tensor, int64_t first, int64_t n, float* out);
// Columns [first, first + n), each as a row: y[n, n_rows]. `first` is a multiple of the type's
// block; a rest of n beyond a whole block is allowed only at the end of the row.
void ReadColumns(const SourceTensor& tensor, int64_t first, int64_t n, float* out);

}  // namespace thermocline::tools
