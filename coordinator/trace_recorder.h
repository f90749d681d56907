// One file of what the coordinator and all workers did when, on the coordinator's clock.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/ids.h"
#include "base/status.h"
#include "base/trace_file.h"
#include "proto/messages.h"

namespace thermocline::coordinator {

// Of a trace file: about 3 million spans. Viewers in a browser give up at 2 GiB.
inline constexpr uint64_t kMaxTraceBytes = uint64_t{512} << 20;

// How far a worker's clock is ahead of the coordinator's, by round trips: the worker read its clock
// somewhere between the question and the answer, so of the latest trips the quickest one is told
// from its middle, wrong by half its length at most.
class ClockOffset {
 public:
  void Add(const proto::ClockEcho& echo, TimePoint now);
  bool known() const { return n_ > 0; }
  // The coordinator's time of what the worker's clock says.
  TimePoint ToOwn(int64_t worker_ns) const;

 private:
  struct Trip {
    Duration took{0};
    Duration ahead{0};
  };
  // Half a minute of trips twice a second, in which two clocks drift apart by some microseconds.
  static constexpr size_t kTrips = 64;

  std::array<Trip, kTrips> trips_;
  size_t n_ = 0;  // so far
};

// Engine thread only.
class TraceRecorder {
 public:
  // kUnavailable when the file cannot be written.
  static Result<std::unique_ptr<TraceRecorder>> Create(const std::string& path, TimePoint now);

  void OnWorker(WorkerId worker, const std::string& name);
  void OnClock(WorkerId worker, const proto::ClockEcho& echo, TimePoint now);
  void OnSpans(WorkerId worker, const proto::TraceSpans& spans);
  void OnStepSent(const proto::StepBatch& step, TimePoint now);
  void OnStepAnswered(StepId step, TimePoint now);
  // Makes the file whole. What goes wrong is logged once; the service goes on.
  void Flush();

 private:
  struct Worker {
    ClockOffset clock;
    size_t n_tracks = 0;  // that have names in the file
    uint64_t n_lost = 0;
  };
  struct Step {
    TimePoint sent;
    int64_t n_rows = 0;
  };

  TraceRecorder(std::unique_ptr<TraceFile> file, TimePoint now);
  int LaneFrom(TimePoint begin, TimePoint end);

  const std::unique_ptr<TraceFile> file_;
  std::map<WorkerId, Worker> workers_;
  std::map<StepId, Step> steps_;     // sent and not answered
  std::vector<TimePoint> lane_end_;  // steps overlap; those of a lane do not
  bool has_warned_ = false;
};

}  // namespace thermocline::coordinator
