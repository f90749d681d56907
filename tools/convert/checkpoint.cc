#include "tools/convert/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "base/str.h"
#include "model/config.h"
#include "model/safetensors.h"
#include "tools/convert/checkpoint_config.h"
#include "tools/convert/checkpoint_names.h"
#include "tools/convert/checkpoint_tokenizer.h"
#include "tools/convert/json_file.h"

namespace thermocline::tools {
namespace {

namespace fs = std::filesystem;

// Tables that every reader computes for itself.
constexpr std::string_view kIgnoredSuffix = ".rotary_emb.inv_freq";

bool IsQueryOrKey(std::string_view gguf_name) {
  return gguf_name.find(".attn_q.") != std::string_view::npos ||
         gguf_name.find(".attn_k.") != std::string_view::npos;
}
bool IsNormWeight(std::string_view gguf_name) { return gguf_name.ends_with("_norm.weight"); }

Result<SourceTensor> MakeTensor(const model::SafetensorsTensor& info, std::string gguf_name,
                                const model::RangeReader& reader, const CheckpointConfig& config) {
  TC_ASSIGN_OR_RETURN(const DType dtype, model::SafetensorsWeightType(info));
  const bool is_matrix = info.shape.size() == 2;
  if ((!is_matrix && info.shape.size() != 1) || info.size_bytes == 0) {
    return InvalidArgument(Str("tensor is neither a vector nor a matrix: ", Printable(info.name)));
  }
  SourceTensor tensor;
  tensor.name = std::move(gguf_name);
  tensor.shape = info.shape;
  auto* data = const_cast<std::byte*>(reader.Mapping().data() + info.offset_bytes);
  const int64_t n_rows = is_matrix ? info.shape[0] : 1;
  tensor.view = TensorView::Dense(data, dtype, n_rows, info.shape.back());
  if (IsNormWeight(tensor.name)) tensor.add = config.layout->norm_add;
  if (!config.layout->interleave_qk || !IsQueryOrKey(tensor.name)) return tensor;
  // A bias is permuted like the rows that it belongs to.
  if (!is_matrix) tensor.view = TensorView::Dense(data, dtype, info.shape[0], 1);
  if (info.shape[0] % config.head_dim != 0) {
    return InvalidArgument(Str("rows are not whole heads: ", Printable(info.name),
                               Kv("rows", info.shape[0]), Kv("head_dim", config.head_dim)));
  }
  tensor.interleave_head_dim = config.head_dim;
  return tensor;
}

Status AddFile(const std::string& path, const CheckpointConfig& config, SourceModel* source) {
  TC_ASSIGN_OR_RETURN(auto reader, model::OpenMappedFile(path));
  TC_ASSIGN_OR_RETURN(const auto infos, model::ReadSafetensors(*reader));
  for (const model::SafetensorsTensor& info : infos) {
    if (info.name.ends_with(kIgnoredSuffix)) continue;
    std::string name = GgufName(*config.layout, info.name);
    if (name.empty()) {
      return InvalidArgument(Str("tensor is not part of a ", config.layout->arch,
                                 " checkpoint: ", Printable(info.name)));
    }
    if (config.tied && name == "output.weight") continue;  // token_embd again
    TC_ASSIGN_OR_RETURN(SourceTensor tensor, MakeTensor(info, std::move(name), *reader, config));
    source->tensors.push_back(std::move(tensor));
  }
  source->files.push_back(std::move(reader));
  return OkStatus();
}

Result<std::vector<std::string>> SafetensorsFiles(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".safetensors") paths.push_back(entry->path().string());
  }
  if (error) return Unavailable(Str("cannot list: ", folder, ": ", error.message()));
  if (paths.empty()) return NotFound(Str("no *.safetensors in ", folder));
  std::sort(paths.begin(), paths.end());
  return paths;
}

// The order that people expect of a listing: embedding, layers by number, head.
std::pair<int, std::string> SortKey(const SourceTensor& tensor) {
  int layer = -1;
  if (tensor.name.starts_with("blk.")) {
    std::from_chars(tensor.name.data() + 4, tensor.name.data() + tensor.name.size(), layer);
  } else if (tensor.name.starts_with("output")) {
    layer = model::kMaxLayers;
  }
  return {layer, tensor.name};
}

Status CheckNames(const std::vector<SourceTensor>& tensors) {
  std::set<std::string_view> names;
  for (const SourceTensor& tensor : tensors) {
    if (!names.insert(tensor.name).second) {
      return InvalidArgument(Str("checkpoint has a tensor twice: ", tensor.name));
    }
  }
  return OkStatus();
}

// A tensor that the rope scaling of config.json stands for.
void AddRopeDivisors(const CheckpointConfig& config, SourceModel* source) {
  if (config.rope_divisors.empty()) return;
  source->own_values.push_back(std::make_unique<std::vector<float>>(config.rope_divisors));
  std::vector<float>& values = *source->own_values.back();
  const auto n = static_cast<int64_t>(values.size());
  SourceTensor tensor;
  tensor.name = "rope_freqs.weight";
  tensor.shape = {n};
  tensor.view = TensorView::F32(values.data(), 1, n);
  source->tensors.push_back(std::move(tensor));
}

std::string NameOf(const std::string& folder) {
  const fs::path path = fs::path(folder).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

Result<SourceModel> OpenCheckpoint(const std::string& folder) {
  TC_ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonFile(folder + "/config.json"));
  TC_ASSIGN_OR_RETURN(const CheckpointConfig config, ReadCheckpointConfig(json));
  SourceModel source;
  source.arch = config.layout->arch;
  source.notes = config.notes;
  SetConfigMetadata(config, NameOf(folder), &source.metadata);
  TC_RETURN_IF_ERROR(SetTokenizerMetadata(folder, config.n_vocab, &source.metadata));
  TC_ASSIGN_OR_RETURN(const std::vector<std::string> paths, SafetensorsFiles(folder));
  for (const std::string& path : paths) TC_RETURN_IF_ERROR(AddFile(path, config, &source));
  AddRopeDivisors(config, &source);
  std::sort(source.tensors.begin(), source.tensors.end(),
            [](const auto& a, const auto& b) { return SortKey(a) < SortKey(b); });
  TC_RETURN_IF_ERROR(CheckNames(source.tensors));
  return source;
}

}  // namespace thermocline::tools
