// A file of what happened when, in the Chrome trace-event format, which Perfetto opens
// (https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU).
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "base/status.h"

namespace thermocline {

// A span of one thread of one process, as the viewer groups them. Spans of a thread must not
// overlap, but may lie within each other.
struct TraceEvent {
  std::string_view name;
  int process = 0;
  int thread = 0;
  TimePoint begin;
  Duration duration{0};
  // Shown beside the span; negative: not.
  int64_t layer = -1;
  int64_t step = -1;
  int64_t n_rows = -1;
  int64_t n_bytes = -1;
};

// After each Flush the file is whole, whatever becomes of the process; between two of them its new
// events wait in memory. Thread-compatible.
class TraceFile {
 public:
  // `limit_bytes` is that of the file: events beyond are counted and left out. kUnavailable when
  // the file cannot be written.
  static Result<std::unique_ptr<TraceFile>> Create(const std::string& path, uint64_t limit_bytes);
  ~TraceFile();
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  // How the viewer calls them.
  void NameProcess(int process, std::string_view name);
  void NameThread(int process, int thread, std::string_view name);
  // Times are shown from `zero` on; the first event's begin unless set before.
  void set_zero(TimePoint zero) { zero_ = zero, has_zero_ = true; }
  void Add(const TraceEvent& event);
  // Events that the source of the events lost; shown with those that this file leaves out.
  void set_n_lost(uint64_t n) { n_lost_ = n; }
  Status Flush();

  uint64_t n_events() const { return n_events_; }
  // Left out for the limit.
  uint64_t n_left_out() const { return n_left_out_; }

  // Of text within a JSON string, without its quotes.
  static void AppendEscaped(std::string_view text, std::string* out);

 private:
  TraceFile(std::FILE* file, std::string path, uint64_t limit_bytes);
  void Name(std::string_view what, int process, int thread, std::string_view name);
  void Append(std::string_view event);

  std::FILE* const file_;
  const std::string path_;
  const uint64_t limit_bytes_;
  uint64_t n_bytes_ = 0;  // of the file, without its end
  std::string waiting_;   // what the next Flush writes
  TimePoint zero_;
  bool has_zero_ = false;
  uint64_t n_events_ = 0, n_left_out_ = 0, n_lost_ = 0;
};

}  // namespace thermocline
