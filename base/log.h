// Logging for every folder: one line per event, lower case, message first, then key=value.
//
//   Log(LogLevel::kInfo, "worker", Str("weights loaded", Kv("epoch", epoch), Kv("bytes", n)));
//
// Levels: error = work was lost; warn = unexpected but served; info = once per lifecycle event;
// debug = per step; trace = per frame. Thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline {

enum class LogLevel : uint8_t { kTrace, kDebug, kInfo, kWarn, kError, kOff };
enum class LogFormat : uint8_t { kText, kJson };

struct LogOptions {
  LogLevel level = LogLevel::kInfo;
  LogFormat format = LogFormat::kText;
  // Put before each text line and into each JSON line, e.g. "rank 2 node3".
  std::string origin;
};

// Sets the process's logging, at the start of main; a worker sets it again when it has learnt its
// id, while no other thread logs. Until then: info, text, stderr.
void ConfigureLog(const LogOptions& options);

// "trace debug info warn error off"; kInvalidArgument names the unknown word.
Result<LogLevel> ParseLogLevel(std::string_view name);

bool LogEnabled(LogLevel level);
void Log(LogLevel level, std::string_view folder, std::string_view message);

inline void LogError(std::string_view folder, std::string_view message) {
  Log(LogLevel::kError, folder, message);
}
inline void LogWarn(std::string_view folder, std::string_view message) {
  Log(LogLevel::kWarn, folder, message);
}
inline void LogInfo(std::string_view folder, std::string_view message) {
  Log(LogLevel::kInfo, folder, message);
}
inline void LogDebug(std::string_view folder, std::string_view message) {
  Log(LogLevel::kDebug, folder, message);
}

}  // namespace thermocline
