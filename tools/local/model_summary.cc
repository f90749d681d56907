#include "tools/local/model_summary.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace thermocline::tools {

ModelSummary SummaryOf(const std::string& path, const worker::LoadedModel& model) {
  ModelSummary summary;
  summary.path = path;
  summary.name = model.config.name.empty() ? path.substr(path.rfind('/') + 1) : model.config.name;
  summary.arch = model.config.arch_name;
  std::array<uint64_t, kNumDTypes> bytes{};
  for (const auto& [key, tensor] : model.weights.all()) {
    summary.n_params += static_cast<uint64_t>(tensor.n_rows() * tensor.n_cols());
    summary.weight_bytes += tensor.size_bytes;
    bytes[static_cast<size_t>(tensor.dtype)] += tensor.size_bytes;
  }
  const auto most = std::max_element(bytes.begin(), bytes.end());
  summary.main_dtype = static_cast<DType>(most - bytes.begin());
  return summary;
}

std::string FormatParams(uint64_t n_params) {
  const auto n = static_cast<double>(n_params);
  char text[32];
  if (n < 1e9) {
    std::snprintf(text, sizeof text, "%.1f M", n / 1e6);
  } else {
    std::snprintf(text, sizeof text, "%.1f B", n / 1e9);
  }
  return text;
}

}  // namespace thermocline::tools
