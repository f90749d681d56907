#include "tools/profile/html_report.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/str.h"
#include "base/units.h"
#include "tools/svg_chart.h"

namespace thermocline::tools {
namespace {

using model::LayerActivity;
using model::SparsityProfile;

// Points of a curve and columns of the heat map: about two screen pixels each.
constexpr size_t kCurvePoints = 240, kHeatColumns = 96;

constexpr std::string_view kStyle = R"css(
:root { color-scheme: light dark; --ground: #f6f7f9; --card: #fff; --text: #1d2430; --dim: #667085;
  --grid: #e4e7ec; --accent: #d9480f; --soft: #a5c8f0; --good: #13795b; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ground: #12161d; --card: #1b212b; --text: #e8ecf2;
  --dim: #98a2b3; --grid: #303947; --accent: #ff8a4c; --soft: #35577f; --good: #4ac79a;
  --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; margin: 0; } h2 { font-size: 16px; margin: 0 0 2px; }
p { margin: 0 0 12px; color: var(--dim); overflow-wrap: anywhere; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.tile { background: var(--card); border: 1px solid var(--grid); border-radius: 10px;
  padding: 12px 18px; min-width: 130px; }
.tile b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.tile span { color: var(--dim); font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr));
  gap: 16px; }
.card { background: var(--card); border: 1px solid var(--grid); border-radius: 10px; padding: 16px;
  min-width: 0; overflow-x: auto; }
.wide { grid-column: 1 / -1; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--dim); font-size: 11px; }
.grid { stroke: var(--grid); } .cell { fill: var(--accent); }
.series polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.series:hover polyline { stroke-width: 4; }
.outer { fill: var(--soft); } .inner { fill: var(--accent); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12px; color: var(--dim); }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px;
  margin-right: 5px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { color: var(--dim); font-weight: 500; font-size: 13px; }
th, td { text-align: right; padding: 4px 10px; border-bottom: 1px solid var(--grid); }
th:first-child, td:first-child { text-align: left; }
.good { color: var(--good); } .bad { color: var(--bad); }
)css";

std::string Percent(double share, int digits = 1) {
  return ShortNumber(100 * share, digits) + " %";
}

double FrequencyOf(uint64_t count, uint64_t n_tokens) {
  return static_cast<double>(count) / static_cast<double>(n_tokens);
}

std::string Card(std::string_view title, std::string_view note, std::string_view body,
                 bool wide = false) {
  return Str("<section class='card", wide ? " wide" : "", "'><h2>", HtmlEscaped(title), "</h2><p>",
             HtmlEscaped(note), "</p>", body, "</section>");
}

std::string Tile(std::string_view value, std::string_view what) {
  return Str("<div class='tile'><b>", HtmlEscaped(value), "</b><span>", HtmlEscaped(what),
             "</span></div>");
}

std::string Row(const char* cell, const std::vector<std::string>& cells) {
  std::string row = "<tr>";
  for (const std::string& text : cells) row += Str("<", cell, ">", text, "</", cell, ">");
  return row + "</tr>";
}

std::vector<std::pair<double, std::string>> PercentTicks() {
  return {{0, "0"}, {0.25, "25"}, {0.5, "50"}, {0.75, "75"}, {1, "100 %"}};
}

// The first, the last and some layers between: a line per layer would drown the page.
std::string LayerLegend(size_t n_layers) {
  std::string legend = "<div class='legend'>";
  const size_t step = std::max<size_t>(1, n_layers / 8);
  for (size_t i = 0; i < n_layers; i += step) {
    legend +=
        Str("<span><i style='background:", ScaleColour(i, n_layers), "'></i>layer ", i, "</span>");
  }
  return legend + "</div>";
}

std::string FrequencyCurves(const SparsityProfile& profile) {
  const Axis x = {"neurons, busiest first", 0, 1, false, PercentTicks()};
  const Axis y = {"tokens it fires for",
                  1e-4,
                  1,
                  true,
                  {{1e-4, "0.01 %"}, {1e-3, "0.1 %"}, {1e-2, "1 %"}, {1e-1, "10 %"}, {1, "100 %"}}};
  std::vector<Series> series;
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const std::vector<uint64_t> ranked = model::ByRank(profile.layers[i].fired);
    Series line = {Str("layer ", i), ScaleColour(i, profile.layers.size()), {}, false};
    const size_t n = std::min(kCurvePoints, ranked.size());
    for (size_t p = 0; p < n; ++p) {
      const size_t rank = n < 2 ? 0 : p * (ranked.size() - 1) / (n - 1);
      line.points.push_back({static_cast<double>(rank + 1) / static_cast<double>(ranked.size()),
                             FrequencyOf(ranked[rank], profile.n_tokens)});
    }
    series.push_back(std::move(line));
  }
  return LineChart(x, y, series) + LayerLegend(profile.layers.size());
}

std::string LayerByRank(const SparsityProfile& profile) {
  HeatMap map;
  map.column_label = "neurons, busiest first; the stronger the colour, the more often they fire";
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const std::vector<uint64_t> ranked = model::ByRank(profile.layers[i].fired);
    const size_t n = std::min(kHeatColumns, ranked.size());
    map.row_labels.push_back(Str(i));
    map.cells.emplace_back();
    map.tips.emplace_back();
    for (size_t c = 0; c < n; ++c) {
      const size_t begin = c * ranked.size() / n, end = (c + 1) * ranked.size() / n;
      double sum = 0;
      for (size_t r = begin; r < end; ++r) sum += FrequencyOf(ranked[r], profile.n_tokens);
      const double mean = sum / static_cast<double>(end - begin);
      // The root: most neurons fire seldom, and their differences matter too.
      map.cells.back().push_back(std::sqrt(mean));
      map.tips.back().push_back(
          Str("layer ", i, ", ranks ", begin, " to ", end - 1, ": ", Percent(mean, 2)));
    }
  }
  return HeatMapChart(map);
}

std::string UnionCurves(const SparsityProfile& profile) {
  Axis x = {"tokens in the batch", 1, 64, true, {}};
  for (const int batch : model::kUnionBatches) x.ticks.push_back({batch, Str(batch)});
  const Axis y = {"neurons needed", 0, 1, false, PercentTicks()};
  std::vector<Series> series;
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    Series line = {Str("layer ", i), ScaleColour(i, profile.layers.size()), {}, true};
    for (size_t b = 0; b < model::kNumUnionBatches; ++b) {
      line.points.push_back(
          {model::kUnionBatches[b], static_cast<double>(profile.layers[i].union_shares[b])});
    }
    series.push_back(std::move(line));
  }
  return LineChart(x, y, series) + LayerLegend(profile.layers.size());
}

std::string MagnitudeCurves(const SparsityProfile& profile) {
  constexpr double kSmallest = 1e-4;  // below it lie zeros and what rounds to them
  double largest = 1;
  for (const LayerActivity& layer : profile.layers) {
    largest = std::max(largest, static_cast<double>(layer.quantiles.back()));
  }
  const Axis x = {"share of activations below", 0, 1, false, PercentTicks()};
  Axis y = {"magnitude", kSmallest, std::pow(10, std::ceil(std::log10(largest))), true, {}};
  for (double tick = kSmallest; tick <= y.max * 1.01; tick *= 10) {
    y.ticks.push_back({tick, ShortNumber(tick, 4)});
  }
  std::vector<Series> series;
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    Series line = {Str("layer ", i), ScaleColour(i, profile.layers.size()), {}, false};
    for (size_t q = 0; q < model::kNumQuantiles; ++q) {
      line.points.push_back({static_cast<double>(q) / (model::kNumQuantiles - 1),
                             static_cast<double>(profile.layers[i].quantiles[q])});
    }
    series.push_back(std::move(line));
  }
  return LineChart(x, y, series) + LayerLegend(profile.layers.size());
}

std::string PredictorBars(const std::vector<PredictorReport>& predictors) {
  std::vector<BarPair> bars;
  for (size_t i = 0; i < predictors.size(); ++i) {
    const PredictorReport& report = predictors[i];
    if (report.hidden == 0) {
      bars.push_back({Str(i), 0, 0, "no predictor"});
      continue;
    }
    bars.push_back({Str(i), report.quality.density, report.quality.predicted_density,
                    Str("recall ", Percent(report.quality.recall, 2), ", size ", report.hidden)});
  }
  return BarChart(bars) +
         "<div class='legend'><span><i style='background:var(--accent)'></i>active</span>"
         "<span><i style='background:var(--soft)'></i>predicted</span></div>";
}

std::string LayerRows(const SparsityProfile& profile) {
  std::string table =
      "<table>" + Row("th", {"layer", "density", "Gini", "make 80 %", "active above", "FFN input",
                             "before activation", "activation"});
  const auto range = [](const model::ValueRange& r) {
    return r.n_values == 0 ? std::string("-")
                           : Str(ShortNumber(static_cast<double>(r.min), 3), " to ",
                                 ShortNumber(static_cast<double>(r.max), 3));
  };
  for (size_t i = 0; i < profile.layers.size(); ++i) {
    const LayerActivity& layer = profile.layers[i];
    table += Row("td", {Str(i), Percent(model::Density(layer.fired, profile.n_tokens)),
                        ShortNumber(model::Gini(layer.fired), 3),
                        Percent(model::ShareForMass(layer.fired, 0.8)),
                        ShortNumber(static_cast<double>(layer.active_threshold), 4),
                        range(layer.input), range(layer.gate), range(layer.activation)});
  }
  return table + "</table>";
}

std::string GuardRows(const model::GuardRecord& guard) {
  std::string table = "<table>" + Row("th", {"FFN mode", "perplexity", "loss"});
  for (const model::GuardResult& result : guard.results) {
    const bool allowed = result.loss <= guard.allowed_loss;
    table += Row("td", {HtmlEscaped(result.mode), ShortNumber(result.perplexity, 4),
                        Str("<span class='", allowed ? "good" : "bad", "'>",
                            Percent(result.loss, 3), "</span>")});
  }
  return table + "</table>";
}

std::string Tiles(const SparsityProfile& profile, const std::vector<PredictorReport>& predictors) {
  double density = 0, gini = 0;
  for (const LayerActivity& layer : profile.layers) {
    density += model::Density(layer.fired, profile.n_tokens);
    gini += model::Gini(layer.fired);
  }
  const auto n = static_cast<double>(profile.layers.size());
  uint64_t bytes = 0;
  for (const PredictorReport& report : predictors) bytes += report.bytes;
  return "<div class='tiles'>" + Tile(Str(profile.n_tokens), "tokens") +
         Tile(Str(profile.layers.size()), "layers") + Tile(Str(profile.n_ff()), "neurons a layer") +
         Tile(Percent(density / n), "active on average") + Tile(ShortNumber(gini / n, 3), "Gini") +
         (predictors.empty() ? "" : Tile(FormatBytes(bytes), "of predictors")) + "</div>";
}

std::string Cards(const SparsityProfile& profile, const std::vector<PredictorReport>& predictors) {
  const bool is_measured = !profile.layers.front().quantiles.empty();
  std::string cards = Card("How often neurons fire", "Each line is a layer; steep means skewed.",
                           FrequencyCurves(profile));
  if (is_measured) {
    cards +=
        Card("What a batch needs", "Neurons active for at least one of so many unrelated tokens.",
             UnionCurves(profile));
  }
  cards += Card("Layer by rank", "Where the heat is.", LayerByRank(profile), !is_measured);
  if (is_measured) {
    cards += Card("Magnitudes", "How large activations are; small ones may be skipped.",
                  MagnitudeCurves(profile));
  }
  if (!predictors.empty()) {
    cards += Card("Predictors", "Neurons active and predicted, as shares of the layer.",
                  PredictorBars(predictors));
  }
  if (!profile.guard.results.empty()) {
    cards += Card("What the modes cost",
                  Str("Perplexity on ", profile.guard.n_tokens,
                      " held-out tokens; allowed: ", Percent(profile.guard.allowed_loss, 2)),
                  GuardRows(profile.guard));
  }
  return cards + Card("Layers", "Skew and value ranges.", LayerRows(profile), true);
}

}  // namespace

std::string HtmlReport(const SparsityProfile& profile,
                       const std::vector<PredictorReport>& predictors) {
  const std::string name = profile.model_name.empty() ? "model" : profile.model_name;
  return Str("<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
             "<meta name='viewport' content='width=device-width, initial-scale=1'><title>",
             HtmlEscaped(name), ": neuron profile</title><style>", kStyle,
             "</style></head><body><main><h1>", HtmlEscaped(name), "</h1><p>Neuron profile from ",
             HtmlEscaped(profile.source), "; model ", HtmlEscaped(profile.fingerprint), "</p>",
             Tiles(profile, predictors), "<div class='cards'>", Cards(profile, predictors),
             "</div></main></body></html>\n");
}

Status WriteTextFile(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) {
    return Unavailable(Str("cannot be written: ", path, Kv("error", std::strerror(errno))));
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  const bool closed = std::fclose(file) == 0;
  if (written && closed) return OkStatus();
  return Unavailable(Str("cannot be written: ", path, Kv("bytes", text.size())));
}

}  // namespace thermocline::tools
