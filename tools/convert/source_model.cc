#include "tools/convert/source_model.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/check.h"
#include "base/str.h"
#include "kernels/device.h"
#include "tools/convert/checkpoint.h"

namespace thermocline::tools {
namespace {

Result<SourceModel> OpenGguf(const std::string& path) {
  SourceModel source;
  TC_ASSIGN_OR_RETURN(auto reader, model::OpenMappedFile(path));
  TC_ASSIGN_OR_RETURN(const model::GgufFile file, model::GgufFile::Parse(*reader));
  TC_ASSIGN_OR_RETURN(source.metadata, model::GgufMetadata::CopyOf(*reader));
  source.dialect = file.dialect();
  if (auto arch = file.GetString("general.architecture"); arch.ok()) source.arch = *arch;
  for (const model::TensorInfo& info : file.tensors()) {
    SourceTensor tensor;
    tensor.name = info.name;
    tensor.shape = info.shape;
    // Weights are never written: views are mutable only because activations share the type.
    auto* data = const_cast<std::byte*>(reader->Mapping().data() + info.offset_bytes);
    tensor.view = TensorView::Dense(data, info.dtype, info.n_rows(), info.n_cols());
    source.tensors.push_back(std::move(tensor));
  }
  source.files.push_back(std::move(reader));
  return source;
}

// Row of the source that becomes row i.
int64_t SourceRow(const SourceTensor& tensor, int64_t i) {
  const int64_t d = tensor.interleave_head_dim;
  if (d == 0) return i;
  const int64_t head = i / d, within = i % d;
  return head * d + within % 2 * (d / 2) + within / 2;
}

}  // namespace

Result<SourceModel> OpenSource(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return OpenCheckpoint(path);
  return OpenGguf(path);
}

void ReadRows(const SourceTensor& tensor, int64_t first, int64_t n, float* out) {
  const int64_t n_cols = tensor.view.n_cols;
  if (tensor.shape.size() == 1) n = tensor.view.n_rows;  // the vector, in rows of its view
  for (int64_t i = 0; i < n; ++i) {
    const std::byte* row = tensor.view.row(SourceRow(tensor, first + i));
    kernels::DequantizeRow(tensor.dtype(), row, n_cols, out + i * n_cols);
  }
  if (tensor.add == 0) return;
  for (int64_t i = 0; i < n * n_cols; ++i) out[i] += tensor.add;
}

void ReadColumns(const SourceTensor& tensor, int64_t first, int64_t n, float* out) {
  CHECK(!tensor.changes_values());
  const int64_t n_rows = tensor.view.n_rows;
  const TensorView columns = tensor.view.Cols(first, n);
  std::vector<float> piece(static_cast<size_t>(n));
  for (int64_t r = 0; r < n_rows; ++r) {
    kernels::DequantizeRow(tensor.dtype(), columns.row(r), n, piece.data());
    for (int64_t c = 0; c < n; ++c) out[c * n_rows + r] = piece[static_cast<size_t>(c)];
  }
}

}  // namespace thermocline::tools
