#include "coordinator/trace_recorder.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/str.h"

namespace thermocline::coordinator {
namespace {

// Processes of the trace: this one, and workers by their ids, which begin at 1.
constexpr int kCoordinatorProcess = 0;

int ProcessOf(WorkerId worker) { return static_cast<int>(worker.value); }

}  // namespace

void ClockOffset::Add(const proto::ClockEcho& echo, TimePoint now) {
  const Duration took = now.since_start - Duration{echo.sent_ns};
  if (took < Duration(0)) return;  // we have asked nothing in the future
  const Duration middle = Duration{echo.sent_ns} + took / 2;
  trips_[n_++ % kTrips] = {took, Duration{echo.at_ns} - middle};
}

TimePoint ClockOffset::ToOwn(int64_t worker_ns) const {
  const auto end = trips_.begin() + static_cast<std::ptrdiff_t>(std::min(n_, kTrips));
  const auto quickest = std::min_element(
      trips_.begin(), end, [](const Trip& a, const Trip& b) { return a.took < b.took; });
  return {Duration{worker_ns} - quickest->ahead};
}

TraceRecorder::TraceRecorder(std::unique_ptr<TraceFile> file, TimePoint now)
    : file_(std::move(file)) {
  file_->set_zero(now);
  file_->NameProcess(kCoordinatorProcess, "coordinator");
}

Result<std::unique_ptr<TraceRecorder>> TraceRecorder::Create(const std::string& path,
                                                             TimePoint now) {
  TC_ASSIGN_OR_RETURN(auto file, TraceFile::Create(path, kMaxTraceBytes));
  return std::unique_ptr<TraceRecorder>(new TraceRecorder(std::move(file), now));
}

void TraceRecorder::OnWorker(WorkerId worker, const std::string& name) {
  file_->NameProcess(ProcessOf(worker), name);
  workers_[worker] = {};
}

void TraceRecorder::OnClock(WorkerId worker, const proto::ClockEcho& echo, TimePoint now) {
  workers_[worker].clock.Add(echo, now);
}

void TraceRecorder::OnSpans(WorkerId worker, const proto::TraceSpans& spans) {
  Worker& from = workers_[worker];
  for (; from.n_tracks < spans.tracks.size(); ++from.n_tracks) {
    file_->NameThread(ProcessOf(worker), static_cast<int>(from.n_tracks),
                      spans.tracks[from.n_tracks]);
  }
  from.n_lost = spans.n_dropped;
  uint64_t n_lost = 0;
  for (const auto& [id, state] : workers_) n_lost += state.n_lost;
  file_->set_n_lost(n_lost);
  if (!from.clock.known()) return;  // its first answer comes before its first step
  for (const proto::TraceSpan& span : spans.spans) {
    file_->Add({.name = spans.names[span.name],
                .process = ProcessOf(worker),
                .thread = static_cast<int>(span.track),
                .begin = from.clock.ToOwn(span.begin_ns),
                .duration = Duration{span.duration_ns},
                .layer = span.layer,
                .step = span.step.value == 0 ? -1 : static_cast<int64_t>(span.step.value),
                .n_rows = span.n_rows,
                .n_bytes = static_cast<int64_t>(span.n_bytes)});
  }
}

void TraceRecorder::OnStepSent(const proto::StepBatch& step, TimePoint now) {
  if (!step.entries.empty()) steps_[step.step] = {now, step.n_tokens()};
}

void TraceRecorder::OnStepAnswered(StepId step, TimePoint now) {
  const auto found = steps_.find(step);
  if (found == steps_.end()) return;
  file_->Add({.name = "step",
              .process = kCoordinatorProcess,
              .thread = LaneFrom(found->second.sent, now),
              .begin = found->second.sent,
              .duration = now - found->second.sent,
              .step = static_cast<int64_t>(step.value),
              .n_rows = found->second.n_rows});
  steps_.erase(found);
}

int TraceRecorder::LaneFrom(TimePoint begin, TimePoint end) {
  size_t lane = 0;
  while (lane < lane_end_.size() && lane_end_[lane] > begin) ++lane;
  if (lane == lane_end_.size()) {
    lane_end_.emplace_back();
    file_->NameThread(kCoordinatorProcess, static_cast<int>(lane), Str("steps ", lane));
  }
  lane_end_[lane] = end;
  return static_cast<int>(lane);
}

void TraceRecorder::Flush() {
  const Status status = file_->Flush();
  if (has_warned_ || (status.ok() && file_->n_left_out() == 0)) return;
  has_warned_ = true;
  LogWarn("coordinator", status.ok() ? Str("trace is full; what comes now is left out:",
                                           Kv("limit_bytes", kMaxTraceBytes))
                                     : Str(status.message(), "; it is not continued"));
}

}  // namespace thermocline::coordinator
