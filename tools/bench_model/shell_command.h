// Runs a command line of the user's in a shell and takes what it prints.
#pragma once

#include <string>

#include "base/clock.h"
#include "base/status.h"

namespace thermocline::tools {

struct CommandOutput {
  std::string text;     // stdout and stderr as they came, the last kMaxOutputBytes of them
  int exit_status = 0;  // as a shell says it: 128 + the signal for a killed command
};

inline constexpr size_t kMaxOutputBytes = 4 << 20;

// Waits for the end of `/bin/sh -c command`. Past `timeout` it and what it started in its process
// group are killed: kDeadlineExceeded with the tail of its output. kUnavailable when no process can
// be started.
Result<CommandOutput> RunShellCommand(const std::string& command, Duration timeout);

// The last lines of an output, for a message: at most `max_lines`, control bytes escaped.
std::string TailOf(const std::string& text, int max_lines = 8);

// `text` as one word of a shell: 'it'\''s'.
std::string ShellQuoted(const std::string& text);

}  // namespace thermocline::tools
