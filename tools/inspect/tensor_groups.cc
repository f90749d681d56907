#include "tools/inspect/tensor_groups.h"

#include <algorithm>
#include <charconv>
#include <map>

namespace thermocline::tools {
namespace {

bool Alike(const LayerGroup& a, const LayerGroup& b) {
  return a.types.types == b.types.types && a.attention_bytes == b.attention_bytes &&
         a.ffn_bytes == b.ffn_bytes && a.predictor_bytes == b.predictor_bytes &&
         a.other_bytes == b.other_bytes;
}

void AddTo(LayerGroup* layer, std::string_view role, const model::TensorInfo& tensor) {
  if (tensor.shape.size() > 1) layer->types.Add(tensor.dtype);
  if (role.starts_with("attn_")) {
    layer->attention_bytes += tensor.size_bytes;
  } else if (role.starts_with("ffn_")) {
    layer->ffn_bytes += tensor.size_bytes;
  } else if (role.starts_with("fc1.") || role.starts_with("fc2.")) {
    layer->predictor_bytes += tensor.size_bytes;
  } else {
    layer->other_bytes += tensor.size_bytes;
  }
}

}  // namespace

TensorPlace PlaceOf(std::string_view tensor_name) {
  constexpr std::string_view kPrefix = "blk.";
  if (!tensor_name.starts_with(kPrefix)) return {-1, tensor_name};
  const std::string_view rest = tensor_name.substr(kPrefix.size());
  int layer = -1;
  const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  const auto n_digits = static_cast<size_t>(end - rest.data());
  if (error != std::errc() || layer < 0 || n_digits >= rest.size() || rest[n_digits] != '.') {
    return {-1, tensor_name};
  }
  return {layer, rest.substr(n_digits + 1)};
}

void TypeList::Add(DType type) {
  if (std::find(types.begin(), types.end(), type) == types.end()) types.push_back(type);
}

std::string TypeList::Text() const {
  std::string text;
  for (const DType type : types) {
    if (!text.empty()) text += ' ';
    text += DTypeName(type);
  }
  return text;
}

std::vector<TensorGroup> GroupTensors(const model::GgufFile& file) {
  std::vector<TensorGroup> groups;
  std::map<std::string, size_t, std::less<>> index;
  for (const model::TensorInfo& tensor : file.tensors()) {
    const std::string role(PlaceOf(tensor.name).role);
    const auto [at, is_new] = index.try_emplace(role, groups.size());
    if (is_new) groups.push_back({.role = role, .types = {}});
    TensorGroup& group = groups[at->second];
    ++group.n_tensors;
    group.types.Add(tensor.dtype);
    group.n_params += static_cast<uint64_t>(tensor.n_rows() * tensor.n_cols());
    group.bytes += tensor.size_bytes;
  }
  return groups;
}

std::vector<LayerGroup> GroupLayers(const model::GgufFile& file) {
  std::map<int, LayerGroup> layers;
  for (const model::TensorInfo& tensor : file.tensors()) {
    const TensorPlace place = PlaceOf(tensor.name);
    if (place.layer < 0) continue;
    LayerGroup& layer = layers[place.layer];
    layer.begin = place.layer;
    layer.end = place.layer + 1;
    AddTo(&layer, place.role, tensor);
  }
  std::vector<LayerGroup> groups;
  for (const auto& [i, layer] : layers) {
    if (!groups.empty() && groups.back().end == i && Alike(groups.back(), layer)) {
      groups.back().end = i + 1;
    } else {
      groups.push_back(layer);
    }
  }
  return groups;
}

}  // namespace thermocline::tools
