#include "tools/bench_model/op_report.h"

#include <algorithm>

#include "base/str.h"
#include "tools/table.h"

namespace thermocline::tools {

std::vector<OpLine> OpLinesOf(const CaseResult& result) {
  std::vector<OpLine> lines;
  if (result.ops.empty() || result.n_steps == 0 || result.seconds <= 0) return lines;
  const auto n_steps = static_cast<double>(result.n_steps);
  double rest = result.seconds;
  for (const OpTime& op : result.ops) {
    rest -= op.seconds;
    lines.push_back({op.name, static_cast<double>(op.n_calls) / n_steps, op.seconds / n_steps,
                     static_cast<double>(op.n_bytes) / n_steps, op.seconds / result.seconds});
  }
  std::stable_sort(lines.begin(), lines.end(),
                   [](const OpLine& a, const OpLine& b) { return a.seconds > b.seconds; });
  lines.push_back({"sampling and the rest", 0, rest / n_steps, 0, rest / result.seconds});
  return lines;
}

double PredictorShare(const CaseResult& result) {
  double seconds = 0;
  for (const OpTime& op : result.ops) seconds += op.is_predictor ? op.seconds : 0;
  return result.seconds > 0 ? seconds / result.seconds : 0;
}

std::string MarkdownOps(const std::string& title, const CaseResult& result) {
  Table table({{"operator", Align::kLeft},
               {"calls", Align::kRight},
               {"ms/step", Align::kRight},
               {"%", Align::kRight},
               {"MB/step", Align::kRight},
               {"GB/s", Align::kRight}});
  for (const OpLine& line : OpLinesOf(result)) {
    table.AddRow({line.name, FixedPoint(line.calls, 0), FixedPoint(1e3 * line.seconds, 3),
                  FixedPoint(100 * line.share, 1), FixedPoint(line.bytes / 1e6, 2),
                  FixedPoint(line.bytes_per_s() / 1e9, 2)});
  }
  std::string text = Str("\n", title, "\n\n", table.Markdown());
  const double share = PredictorShare(result);
  if (share > 0) text += Str("\npredictors: ", FixedPoint(100 * share, 1), " % of the time\n");
  return text;
}

}  // namespace thermocline::tools
