#include "tools/plan/page.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/str.h"
#include "base/units.h"
#include "placement/plan_links.h"
#include "placement/reason_text.h"
#include "tools/plan/explain.h"
#include "tools/svg_chart.h"

namespace thermocline::tools {
namespace {

using placement::PlanForecast;
using placement::StagePlan;

constexpr const char* kHead =
    "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Plan</title><style>"
    ":root{--text:#1b1b1b;--muted:#666;--grid:#ddd;--surface:#fff;--box:#f4f4f1}"
    "@media(prefers-color-scheme:dark){:root{--text:#e8e8e8;--muted:#999;--grid:#444;"
    "--surface:#161616;--box:#222}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--surface);"
    "max-width:70em;margin:2em auto;padding:0 1em}"
    "pre{background:var(--box);padding:1em;overflow:auto;font-size:13px}"
    "svg text{fill:var(--text);font:13px system-ui,sans-serif}</style></head><body>";

// Boxes of one stage stand in a column, the lead on top; stages from left to right.
constexpr int kBoxWidth = 190, kBoxHeight = 84, kGapX = 90, kGapY = 26;

std::string Box(int x, int y, const std::vector<std::string>& lines, double busy_share) {
  std::string svg =
      Str("<rect x=\"", x, "\" y=\"", y, "\" width=\"", kBoxWidth, "\" height=\"", kBoxHeight,
          "\" rx=\"6\" fill=\"var(--box)\" stroke=\"var(--grid)\"/>", "<rect x=\"", x, "\" y=\"",
          y + kBoxHeight - 6, "\" width=\"", std::lround(kBoxWidth * busy_share),
          "\" height=\"6\" fill=\"", ScaleColour(3, 4),
          "\"><title>busy for this share of the "
          "busiest worker's time</title></rect>");
  int line_y = y + 20;
  for (const std::string& line : lines) {
    svg += Str("<text x=\"", x + 10, "\" y=\"", line_y, "\">", HtmlEscaped(line), "</text>");
    line_y += 18;
  }
  return svg;
}

std::string Arrow(int x1, int y1, int x2, int y2) {
  return Str("<line x1=\"", x1, "\" y1=\"", y1, "\" x2=\"", x2, "\" y2=\"", y2,
             "\" stroke=\"var(--muted)\" stroke-width=\"1.5\"/>");
}

std::string LinkText(const PlanSources& sources, WorkerId from, WorkerId to, int x, int y) {
  const placement::LinkProfile* link = sources.cluster.FindLink(from, to);
  return Str("<text x=\"", x, "\" y=\"", y, "\" text-anchor=\"middle\">",
             ShortNumber(link->latency_s.value * 1e6, 1), " µs</text><text x=\"", x, "\" y=\"",
             y + 16, "\" text-anchor=\"middle\">", ShortNumber(link->bytes_per_s.value / 1e9, 2),
             " GB/s</text>");
}

std::string ClusterMap(const PlanSources& sources, const placement::PlannedModel& planned) {
  const auto& stages = planned.forecast.stages;
  size_t tallest = 1;
  for (const auto& stage : stages) tallest = std::max(tallest, stage.members.size());
  const int width = static_cast<int>(stages.size()) * (kBoxWidth + kGapX) - kGapX;
  const int height = static_cast<int>(tallest) * (kBoxHeight + kGapY) - kGapY;
  std::string svg = Str("<svg viewBox=\"0 0 ", width, " ", height, "\" width=\"", width,
                        "\" style=\"max-width:100%\">");
  for (size_t i = 0; i < stages.size(); ++i) {
    const StagePlan& stage = planned.plan.stages[i];
    const int x = static_cast<int>(i) * (kBoxWidth + kGapX);
    if (i + 1 < stages.size()) {
      svg += Arrow(x + kBoxWidth, kBoxHeight / 2, x + kBoxWidth + kGapX, kBoxHeight / 2);
      svg += LinkText(sources, stage.lead, planned.plan.stages[i + 1].lead,
                      x + kBoxWidth + kGapX / 2, kBoxHeight / 2 - 22);
      svg += Str("<text x=\"", x + kBoxWidth + kGapX / 2, "\" y=\"", kBoxHeight / 2 + 18,
                 "\" text-anchor=\"middle\">", placement::UnlikeText(planned.plan, stage.to_next),
                 "</text>");
    }
    for (size_t m = 0; m < stages[i].members.size(); ++m) {
      const PlanForecast::Member& member = stages[i].members[m];
      const placement::WorkerProfile* worker = sources.cluster.FindWorker(member.worker);
      const int y = static_cast<int>(m) * (kBoxHeight + kGapY);
      if (m > 0) svg += Arrow(x + 20, y - kGapY, x + 20, y);
      svg +=
          Box(x, y,
              {Str("worker ", member.worker, " ", worker->host),
               m == 0 ? Str("leads layers ",
                            placement::LayersText(stage.layers.begin, stage.layers.end),
                            placement::HeadsText(stage.heads))
                      : Str("helps", placement::HeadsText(stage.helpers[m - 1].heads),
                            placement::UnlikeText(planned.plan, stage.helpers[m - 1].to_lead)),
               Str(ShortNumber(1e3 * member.busy_s, 2), " ms, ", FormatBytes(member.memory_bytes))},
              member.busy_s / std::max(planned.forecast.bottleneck_s, 1e-30));
    }
  }
  return svg + "</svg>";
}

// Those without a place in the plan, a few in a row; "" without any.
std::string SpareMap(const PlanSources& sources, const placement::Plan& plan) {
  constexpr int kPerRow = 4, kSpareGapX = 26;
  const auto spares = SparesOf(sources.cluster, plan);
  if (spares.empty()) return "";
  const int n = static_cast<int>(spares.size());
  const int width = std::min(n, kPerRow) * (kBoxWidth + kSpareGapX) - kSpareGapX;
  const int height = (n + kPerRow - 1) / kPerRow * (kBoxHeight + kGapY) - kGapY;
  std::string svg = Str("<svg viewBox=\"0 0 ", width, " ", height, "\" width=\"", width,
                        "\" style=\"max-width:100%\">");
  for (int i = 0; i < n; ++i) {
    const placement::WorkerProfile& worker = *spares[static_cast<size_t>(i)];
    svg += Box(i % kPerRow * (kBoxWidth + kSpareGapX), i / kPerRow * (kBoxHeight + kGapY),
               {Str("worker ", worker.id, " ", worker.host), "spare",
                Str("of ", FormatBytes(worker.memory_bytes))},
               0);
  }
  return Str("<h2>Spare workers</h2><p>They have no place in this plan.</p>", svg, "</svg>");
}

// Rows are workers, columns layers. `cell_of(stage, member, layer of the stage)`: how hot a cell is
// and its tip.
template <typename CellOf>
HeatMap MapOf(const PlanSources& sources, const placement::PlannedModel& planned, CellOf cell_of) {
  HeatMap map{.column_label = "layer"};
  for (size_t i = 0; i < planned.plan.stages.size(); ++i) {
    const model::LayerRange& layers = planned.plan.stages[i].layers;
    const auto& members = planned.forecast.stages[i].members;
    for (size_t m = 0; m < members.size(); ++m) {
      map.row_labels.push_back(Str("worker ", members[m].worker));
      auto& cells = map.cells.emplace_back();
      auto& tips = map.tips.emplace_back();
      for (int layer = 0; layer < sources.model.config.n_layer; ++layer) {
        std::pair<double, std::string> cell = {0, "nothing"};
        if (layers.begin <= layer && layer < layers.end) {
          cell = cell_of(i, m, static_cast<size_t>(layer - layers.begin));
        }
        cells.push_back(cell.first);
        tips.push_back(Str("worker ", members[m].worker, ", layer ", layer, ": ", cell.second));
      }
    }
  }
  return map;
}

// As hot as the share of the layer's neurons that the worker holds.
HeatMap NeuronMap(const PlanSources& sources, const placement::PlannedModel& planned) {
  return MapOf(sources, planned, [&](size_t stage, size_t member, size_t layer) {
    const double share =
        NeuronShare(planned.plan.stages[stage], member, layer, sources.model.config.n_ff);
    return std::pair(share, Str(ShortNumber(100 * share, 1), " % of the neurons"));
  });
}

// As hot as the bytes of the layer that the worker holds, against the largest such part.
HeatMap BytesMap(const PlanSources& sources, const placement::PlannedModel& planned) {
  uint64_t most = 1;
  for (const auto& stage : planned.forecast.stages) {
    for (const PlanForecast::Layer& layer : stage.layers) {
      most = std::max(most, *std::max_element(layer.bytes.begin(), layer.bytes.end()));
    }
  }
  return MapOf(sources, planned, [&](size_t stage, size_t member, size_t layer) {
    const uint64_t bytes = planned.forecast.stages[stage].layers[layer].bytes[member];
    return std::pair(static_cast<double>(bytes) / static_cast<double>(most), FormatBytes(bytes));
  });
}

}  // namespace

std::string PlanPage(const PlanSources& sources, const placement::PlannedModel& planned,
                     const std::string& explanation) {
  const std::string name = sources.model.config.name;
  return Str(kHead, "<h1>Plan for ", HtmlEscaped(name.empty() ? "a model" : name),
             "</h1><h2>The cluster</h2><p>Stages from left to right; helpers below the lead whose "
             "neurons they share. Times are of a step of ",
             planned.forecast.n_sequences,
             planned.forecast.n_sequences == 1 ? " sequence" : " sequences",
             "; the bar is the time a worker is busy, against the busiest.</p>",
             ClusterMap(sources, planned), SpareMap(sources, planned.plan),
             "<h2>Who holds which neurons</h2><p>By worker and layer, the share of the layer's "
             "neurons.</p>",
             HeatMapChart(NeuronMap(sources, planned)),
             "<h2>Who holds which bytes</h2><p>By worker and layer, attention and predictors "
             "included, against the largest part.</p>",
             HeatMapChart(BytesMap(sources, planned)), "<h2>In words</h2><pre>",
             HtmlEscaped(explanation), "</pre></body></html>\n");
}

}  // namespace thermocline::tools
