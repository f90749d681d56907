#include "tools/profile/table.h"

#include <cstdarg>
#include <cstdio>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::tools {
namespace {

constexpr size_t kUnion4 = 2, kUnion16 = 4, kUnion64 = 6;  // in kUnionBatches
static_assert(model::kUnionBatches[kUnion4] == 4 && model::kUnionBatches[kUnion16] == 16 &&
              model::kUnionBatches[kUnion64] == 64);

[[gnu::format(printf, 1, 2)]] std::string Format(const char* format, ...) {
  char line[256];
  va_list args;
  va_start(args, format);
  std::vsnprintf(line, sizeof line, format, args);
  va_end(args);
  return line;
}

uint64_t NeverFired(const std::vector<uint64_t>& fired) {
  uint64_t n = 0;
  for (const uint64_t count : fired) n += count == 0 ? 1 : 0;
  return n;
}

std::string UnionText(const model::LayerActivity& layer) {
  if (layer.quantiles.empty()) return "      -      -      -      -";
  std::string text;
  for (const size_t b : {size_t{0}, kUnion4, kUnion16, kUnion64}) {
    text += Format(" %5.1f%%", 100.0 * static_cast<double>(layer.union_shares[b]));
  }
  return text;
}

}  // namespace

std::string LayerTable(const model::SparsityProfile& profile) {
  std::string table =
      "layer density   gini  80% by  never   B=1    B=4   B=16   B=64  (neurons a batch needs)\n";
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const model::LayerActivity& layer = profile.layers[i];
    table +=
        Format("%5zu  %5.1f%%  %5.3f  %5.1f%% %6llu %s\n", i,
               100 * model::Density(layer.fired, profile.n_tokens), model::Gini(layer.fired),
               100 * model::ShareForMass(layer.fired, 0.8),
               static_cast<unsigned long long>(NeverFired(layer.fired)), UnionText(layer).c_str());
  }
  return table;
}

std::string PredictorTable(const std::vector<PredictorReport>& reports) {
  std::string table =
      "layer  hidden type    bytes  of FFN  recall precision active predicted  tried  time\n";
  uint64_t bytes = 0, neuron_bytes = 0;
  for (size_t i = 0; i < reports.size(); ++i) {
    const PredictorReport& report = reports[i];
    bytes += report.bytes;
    neuron_bytes += report.neuron_bytes;
    if (report.hidden == 0) {
      table += Format("%5zu  none: the budget is too small for one\n", i);
      continue;
    }
    const PredictorQuality& quality = report.quality;
    const std::string time =
        report.time_share < 0 ? "    -" : Format("%4.1f%%", 100 * report.time_share);
    table +=
        Format("%5zu  %6lld %-4s %8s  %5.1f%%  %5.2f%%    %5.1f%% %5.1f%%    %5.1f%%  %5d %s\n", i,
               static_cast<long long>(report.hidden), std::string(DTypeName(report.dtype)).c_str(),
               FormatBytes(report.bytes).c_str(),
               100 * static_cast<double>(report.bytes) / static_cast<double>(report.neuron_bytes),
               100 * quality.recall, 100 * quality.precision, 100 * quality.density,
               100 * quality.predicted_density, report.n_tried, time.c_str());
  }
  table += Format("  all         %10s  %5.1f%%\n", FormatBytes(bytes).c_str(),
                  neuron_bytes == 0
                      ? 0.0
                      : 100 * static_cast<double>(bytes) / static_cast<double>(neuron_bytes));
  return table;
}

std::string GuardTable(const model::GuardRecord& guard) {
  std::string table =
      Format("mode         perplexity     loss   (%llu held-out tokens, allowed %.2f %%)\n",
             static_cast<unsigned long long>(guard.n_tokens), 100 * guard.allowed_loss);
  for (const model::GuardResult& result : guard.results) {
    table += Format("%-11s %11.4f  %+7.3f%%  %s\n", result.mode.c_str(), result.perplexity,
                    100 * result.loss,
                    result.loss <= guard.allowed_loss ? "" : "beyond what is allowed");
  }
  return table;
}

}  // namespace thermocline::tools
