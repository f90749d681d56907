// What the operator sees while a cluster starts and serves: who joined, the plan, loading bars, the
// node table, the security line and the URL.
#pragma once

#include <atomic>
#include <cstdio>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/engine.h"

namespace thermocline::coordinator {

struct TerminalText {
  std::string security;  // one line
  std::string model;     // one line: name, architecture, size
};

// Writes to `out`; on a terminal the loading bars are redrawn in place, elsewhere each quarter of
// a load is a line, and one every ten seconds. Called on the engine thread; the two flags are read
// by main.
class Terminal final : public EngineObserver {
 public:
  Terminal(std::FILE* out, const Clock& clock, TerminalText text);

  // Before the engine starts: where the API is, "http://127.0.0.1:8080".
  void SetUrl(std::string url) { url_ = std::move(url); }

  void OnWorkerJoined(const WorkerStatus& worker) override;
  void OnWorkerRefused(const std::string& host, const Status& why) override;
  void OnWorkerLeft(const WorkerStatus& worker, const Status& why) override;
  void OnMeasuringLinks(const LinkSurvey& survey) override;
  void OnPlanning(const PlanJob& job) override;
  void OnPlan(const PlanOutcome& planned) override;
  void OnLoadProgress(const std::vector<WorkerStatus>& workers) override;
  void OnReady(const WorkerStatus& worker, const proto::Ready& ready) override;
  void OnServing(const placement::Plan& plan) override;
  void OnNews(const std::string& line) override;
  void OnPlanChanged(const placement::Plan& plan, const PlanStatus& status) override;
  void OnFailed(const Status& why) override;
  void OnStopped() override;

  bool failed() const { return failed_; }
  bool stopped() const { return stopped_; }

 private:
  void Line(const std::string& text);
  void ClearBars();
  void DrawBar(const WorkerStatus& worker);
  void RedrawBars();
  void PrintQuarters();

  std::FILE* const out_;
  const Clock& clock_;
  const TerminalText text_;
  std::string url_;
  std::string spares_;  // who has no work and why; "": nobody
  const bool is_terminal_;
  std::vector<WorkerStatus> workers_;
  int n_bars_drawn_ = 0;
  struct Printed {
    int quarters = 0;
    TimePoint at;
  };
  std::map<WorkerId, Printed> printed_;  // of a load, where bars are not redrawn
  TimePoint last_drawn_;
  std::atomic<bool> failed_{false};
  std::atomic<bool> stopped_{false};
};

// "worker  host   device ..." with one row per worker.
std::string NodeTable(const std::vector<WorkerStatus>& workers);
// "[#########.....]  64 %  120.0 MiB of 187.5 MiB".
std::string ProgressBar(uint64_t bytes_done, uint64_t bytes_total);

}  // namespace thermocline::coordinator
