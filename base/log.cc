#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <array>

#include "base/str.h"

namespace thermocline {
namespace {

constexpr std::array<std::string_view, 6> kLevelNames = {"trace", "debug", "info",
                                                         "warn",  "error", "off"};

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarn:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::info;
}

// The process's one logger. Logging is the exception to "no globals": a message must be possible
// before anything is constructed and after everything is destroyed.
struct ProcessLog {
  std::shared_ptr<spdlog::logger> logger = spdlog::stderr_color_mt("thermocline");
  LogFormat format = LogFormat::kText;
  std::string origin;
};

ProcessLog& TheLog() {
  static ProcessLog* log = [] {
    auto* created = new ProcessLog;
    created->logger->set_pattern("%H:%M:%S.%e %^%L%$ %v");
    created->logger->flush_on(spdlog::level::trace);
    return created;
  }();
  return *log;
}

std::string JsonEscape(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += ' ';
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

void ConfigureLog(const LogOptions& options) {
  ProcessLog& log = TheLog();
  log.format = options.format;
  log.origin = options.origin;
  log.logger->set_level(ToSpdlog(options.level));
  if (options.format == LogFormat::kJson) log.logger->set_pattern("%v");
}

Result<LogLevel> ParseLogLevel(std::string_view name) {
  for (size_t i = 0; i < kLevelNames.size(); ++i) {
    if (kLevelNames[i] == name) return static_cast<LogLevel>(i);
  }
  return InvalidArgument(
      Str("unknown log level \"", Printable(name), "\"; one of trace debug info warn error off"));
}

bool LogEnabled(LogLevel level) { return TheLog().logger->should_log(ToSpdlog(level)); }

void Log(LogLevel level, std::string_view folder, std::string_view message) {
  ProcessLog& log = TheLog();
  const auto spd_level = ToSpdlog(level);
  if (!log.logger->should_log(spd_level)) return;
  if (log.format == LogFormat::kJson) {
    log.logger->log(
        spd_level, Str("{\"level\":\"", kLevelNames[static_cast<size_t>(level)], "\",\"folder\":\"",
                       folder, "\",\"origin\":\"", JsonEscape(log.origin), "\",\"message\":\"",
                       JsonEscape(message), "\"}"));
    return;
  }
  log.logger->log(spd_level,
                  Str(log.origin.empty() ? "" : Str("[", log.origin, "] "), folder, ": ", message));
}

}  // namespace thermocline
