#include "coordinator/terminal.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "base/units.h"
#include "coordinator/plan_text.h"
#include "placement/reason_text.h"

namespace thermocline::coordinator {
namespace {

constexpr int kBarWidth = 30;
// A redrawn bar looks steady at 10 Hz. In a log (and under mpirun, which hands lines on) each
// quarter of a worker's load is a line.
constexpr Duration kRedrawInterval = std::chrono::milliseconds(100);
constexpr int kQuarters = 4;
// A large model's quarter takes minutes: a line now and then tells that it gets on.
constexpr Duration kLogInterval = std::chrono::seconds(10);

int QuartersDone(const WorkerStatus& worker) {
  if (worker.bytes_total == 0) return 0;
  return static_cast<int>(kQuarters * worker.bytes_done / worker.bytes_total);
}

std::string Padded(const std::string& text, size_t width) {
  return text.size() >= width ? text : text + std::string(width - text.size(), ' ');
}

std::string LayersOf(const WorkerStatus& worker) {
  if (worker.stage < 0) return "spare";
  return placement::LayersText(worker.layer_begin, worker.layer_end);
}

std::string StageOf(const WorkerStatus& worker) {
  if (worker.stage < 0) return "-";
  return Str(worker.stage, worker.is_helper ? " (helps)" : "");
}

// "2 x NVIDIA H100 80GB HBM3 (79.6 GiB)", kind by kind.
std::string GpusOf(const WorkerStatus& worker) {
  std::vector<std::pair<std::string, int>> kinds;
  for (const placement::GpuInfo& gpu : worker.gpus) {
    const std::string kind = Str(Printable(gpu.name), " (", FormatBytes(gpu.memory_bytes), ")");
    const auto known = std::find_if(kinds.begin(), kinds.end(),
                                    [&](const auto& other) { return other.first == kind; });
    if (known == kinds.end()) {
      kinds.emplace_back(kind, 1);
    } else {
      ++known->second;
    }
  }
  std::string text;
  for (const auto& [kind, n] : kinds) text += Str(text.empty() ? "" : ", ", n, " x ", kind);
  return text.empty() ? "-" : text;
}

std::string NameOf(const WorkerStatus& worker) {
  return Str("worker ", worker.id, " on ", Printable(worker.host));
}

}  // namespace

std::string ProgressBar(uint64_t bytes_done, uint64_t bytes_total) {
  const double share =
      bytes_total == 0 ? 0 : static_cast<double>(bytes_done) / static_cast<double>(bytes_total);
  const int filled = std::clamp(static_cast<int>(share * kBarWidth), 0, kBarWidth);
  const int percent = std::clamp(static_cast<int>(share * 100), 0, 100);
  return Str("[", std::string(static_cast<size_t>(filled), '#'),
             std::string(static_cast<size_t>(kBarWidth - filled), '.'), "] ",
             percent < 100 ? percent < 10 ? "  " : " " : "", percent, " %  ",
             FormatBytes(bytes_done), " of ", FormatBytes(bytes_total));
}

std::string NodeTable(const std::vector<WorkerStatus>& workers) {
  std::vector<std::vector<std::string>> rows = {
      {"worker", "host", "device", "memory", "stage", "layers", "weights", "peak rss"}};
  const bool any_gpus = std::any_of(workers.begin(), workers.end(), [](const WorkerStatus& worker) {
    return !worker.gpus.empty();
  });
  if (any_gpus) rows.front().emplace_back("GPUs of its host");
  for (const WorkerStatus& worker : workers) {
    rows.push_back({Str(worker.id), worker.host, worker.device, FormatBytes(worker.memory_bytes),
                    StageOf(worker), LayersOf(worker), FormatBytes(worker.bytes_total),
                    FormatBytes(worker.peak_rss_bytes)});
    if (any_gpus) rows.back().push_back(GpusOf(worker));
  }
  std::string table;
  for (const auto& row : rows) {
    table += " ";
    for (size_t column = 0; column < row.size(); ++column) {
      size_t width = 0;
      for (const auto& other : rows) width = std::max(width, other[column].size());
      table += Str(" ", Padded(row[column], width + 1));
    }
    table.erase(table.find_last_not_of(' ') + 1);
    table += "\n";
  }
  return table;
}

Terminal::Terminal(std::FILE* out, const Clock& clock, TerminalText text)
    : out_(out),
      clock_(clock),
      text_(std::move(text)),
      is_terminal_(isatty(fileno(out)) == 1),
      last_drawn_(clock.Now()) {}

void Terminal::Line(const std::string& text) {
  ClearBars();
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
}

void Terminal::ClearBars() {
  if (n_bars_drawn_ == 0) return;
  // Up n lines, then clear to the end of the screen.
  std::fprintf(out_, "\x1b[%dA\x1b[J", n_bars_drawn_);
  n_bars_drawn_ = 0;
}

void Terminal::DrawBar(const WorkerStatus& worker) {
  std::fprintf(out_, "  %s %s\n", Padded(NameOf(worker), 28).c_str(),
               ProgressBar(worker.bytes_done, worker.bytes_total).c_str());
}

void Terminal::RedrawBars() {
  const TimePoint now = clock_.Now();
  if (now - last_drawn_ < kRedrawInterval) return;
  last_drawn_ = now;
  ClearBars();
  for (const WorkerStatus& worker : workers_) {
    if (worker.stage < 0) continue;
    DrawBar(worker);
    ++n_bars_drawn_;
  }
  std::fflush(out_);
}

void Terminal::PrintQuarters() {
  const TimePoint now = clock_.Now();
  for (const WorkerStatus& worker : workers_) {
    Printed& printed = printed_[worker.id];
    const int done = QuartersDone(worker);
    const bool is_loading = worker.stage >= 0 && done < kQuarters;
    const bool is_due = is_loading && now - printed.at >= kLogInterval;
    if (worker.stage < 0 || (done <= printed.quarters && !is_due)) continue;
    printed = {done, now};
    DrawBar(worker);
  }
  std::fflush(out_);
}

void Terminal::OnWorkerJoined(const WorkerStatus& worker) {
  Line(Str(NameOf(worker), " joined: ", worker.device, ", ", FormatBytes(worker.memory_bytes)));
}

void Terminal::OnWorkerRefused(const std::string& host, const Status& why) {
  Line(Str("a worker on ", host, " was refused: ", why.message()));
}

void Terminal::OnWorkerLeft(const WorkerStatus&, const Status& why) {
  Line(Str(why.message(), "; it has no place in the plan, so serving goes on"));
}

void Terminal::OnMeasuringLinks(const LinkSurvey& survey) {
  Line(Str("measuring links: ", survey.n_pairs(), survey.n_pairs() == 1 ? " pair" : " pairs"));
}

void Terminal::OnPlanning(const PlanJob& job) {
  const std::string links = LinksText(job.cluster);
  if (!links.empty()) Line(links);
  Line(PlanningText(job));
}

void Terminal::OnPlan(const PlanOutcome& planned) {
  printed_.clear();
  for (const placement::WorkerProfile& worker : planned.cluster.workers) {
    printed_[worker.id].at = clock_.Now();
  }
  Line(PlanText(planned));
  spares_ = SparesText(planned);
}

void Terminal::OnLoadProgress(const std::vector<WorkerStatus>& workers) {
  workers_ = workers;
  is_terminal_ ? RedrawBars() : PrintQuarters();
}

void Terminal::OnReady(const WorkerStatus& worker, const proto::Ready& ready) {
  for (WorkerStatus& known : workers_) {
    if (known.id == worker.id) known = worker;
  }
  Line(Str("  ", NameOf(worker), " loaded ", FormatBytes(ready.owned_bytes), " (read ",
           FormatBytes(ready.read_bytes),
           ready.kept_bytes > 0 ? Str(", kept ", FormatBytes(ready.kept_bytes)) : "",
           ", peak memory ", FormatBytes(ready.peak_rss_bytes), ")", ready.note.empty() ? "" : ", ",
           ready.note));
}

void Terminal::OnServing(const placement::Plan&) {
  Line(Str("\n", text_.model, "\n", NodeTable(workers_), spares_, "security: ", text_.security,
           "\nserving at ", url_, "  (API under /v1, status page at /)\n"));
}

void Terminal::OnNews(const std::string& line) { Line(line); }

void Terminal::OnPlanChanged(const placement::Plan& plan, const PlanStatus& status) {
  char pause[32];
  std::snprintf(pause, sizeof pause, "%.2f", status.pause_s);
  Line(Str("epoch ", plan.epoch, " serves after a pause of ", pause, " s (", status.why, "): kept ",
           FormatBytes(status.kept_bytes), ", read ", FormatBytes(status.read_bytes), "\n",
           NodeTable(workers_), spares_));
}

// The program says why when it ends.
void Terminal::OnFailed(const Status&) {
  ClearBars();
  failed_ = true;
}

void Terminal::OnStopped() { stopped_ = true; }

}  // namespace thermocline::coordinator
