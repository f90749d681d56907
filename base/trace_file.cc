#include "base/trace_file.h"

#include <array>
#include <cerrno>
#include <cinttypes>
#include <cstring>
#include <utility>

#include "base/str.h"

namespace thermocline {
namespace {

constexpr std::string_view kBegin = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";

// Microseconds with their thousandths, which is what the format wants.
void AppendMicros(Duration d, std::string* out) {
  std::array<char, 40> text;
  const int n =
      std::snprintf(text.data(), text.size(), "%" PRId64 ".%03d",
                    static_cast<int64_t>(d.count() / 1000), static_cast<int>(d.count() % 1000));
  out->append(text.data(), static_cast<size_t>(n));
}

void AppendArgument(std::string_view name, int64_t value, std::string* out) {
  if (value < 0) return;
  if (out->back() != '{') out->push_back(',');
  out->append("\"").append(name).append("\":").append(std::to_string(value));
}

}  // namespace

TraceFile::TraceFile(std::FILE* file, std::string path, uint64_t limit_bytes)
    : file_(file), path_(std::move(path)), limit_bytes_(limit_bytes), waiting_(kBegin) {}

TraceFile::~TraceFile() { std::fclose(file_); }

Result<std::unique_ptr<TraceFile>> TraceFile::Create(const std::string& path,
                                                     uint64_t limit_bytes) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  if (file == nullptr) {
    return Unavailable(Str("cannot write the trace ", path, ": ", std::strerror(errno)));
  }
  std::setvbuf(file, nullptr, _IONBF, 0);
  std::unique_ptr<TraceFile> trace(new TraceFile(file, path, limit_bytes));
  TC_RETURN_IF_ERROR(trace->Flush());
  return trace;
}

void TraceFile::AppendEscaped(std::string_view text, std::string* out) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') out->push_back('\\');
    out->push_back(byte < 0x20 || byte >= 0x7f ? '?' : c);
  }
}

void TraceFile::Append(std::string_view event) {
  if (n_bytes_ + waiting_.size() + event.size() > limit_bytes_) {
    ++n_left_out_;
    return;
  }
  if (waiting_.size() + n_bytes_ > kBegin.size()) waiting_.push_back(',');
  waiting_.append("\n").append(event);
  ++n_events_;
}

void TraceFile::Name(std::string_view what, int process, int thread, std::string_view name) {
  std::string event = Str("{\"ph\":\"M\",\"name\":\"", what, "\",\"pid\":", process,
                          ",\"tid\":", thread, ",\"args\":{\"name\":\"");
  AppendEscaped(name, &event);
  Append(event.append("\"}}"));
}

void TraceFile::NameProcess(int process, std::string_view name) {
  Name("process_name", process, 0, name);
}

void TraceFile::NameThread(int process, int thread, std::string_view name) {
  Name("thread_name", process, thread, name);
}

void TraceFile::Add(const TraceEvent& event) {
  if (!has_zero_) set_zero(event.begin);
  std::string text = "{\"ph\":\"X\",\"name\":\"";
  AppendEscaped(event.name, &text);
  text.append("\",\"pid\":").append(std::to_string(event.process));
  text.append(",\"tid\":").append(std::to_string(event.thread)).append(",\"ts\":");
  AppendMicros(std::max(Duration{0}, event.begin - zero_), &text);
  text.append(",\"dur\":");
  AppendMicros(std::max(Duration{0}, event.duration), &text);
  text.append(",\"args\":{");
  AppendArgument("layer", event.layer, &text);
  AppendArgument("step", event.step, &text);
  AppendArgument("rows", event.n_rows, &text);
  AppendArgument("bytes", event.n_bytes, &text);
  Append(text.append("}}"));
}

// The end is written each time, and overwritten by what comes next; in one write, so that nobody
// sees a part of it.
Status TraceFile::Flush() {
  const std::string end = Str("\n],\"otherData\":{\"events\":", n_events_,
                              ",\"events_left_out\":", n_left_out_ + n_lost_, "}}\n");
  const size_t n_new = waiting_.size();
  waiting_.append(end);
  const bool written = std::fseek(file_, static_cast<long>(n_bytes_), SEEK_SET) == 0 &&
                       std::fwrite(waiting_.data(), 1, waiting_.size(), file_) == waiting_.size();
  waiting_.clear();
  if (!written) {
    return Unavailable(Str("cannot write the trace ", path_, ": ", std::strerror(errno)));
  }
  n_bytes_ += n_new;
  return OkStatus();
}

}  // namespace thermocline
