// What every offline program does around its work: reads its command line, and ends with a message
// and an exit code. For their main.cc files only.
#pragma once

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

#include "base/log.h"
#include "base/status.h"
#include "tools/exit_code.h"

namespace thermocline::tools {

// Fills what `app`'s options point to. The exit code when the program ends with that: 0 after
// --help, 2 after a message about what is wrong.
inline std::optional<int> ParseArguments(CLI::App& app, int argc, char** argv) {
  app.failure_message([](const CLI::App* self, const CLI::Error& error) {
    return self->get_name() + ": " + error.what() + "; see --help\n";
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

// --log-level of programs that have it.
inline void AddLogLevel(CLI::App* app, std::string* log_level) {
  app->add_option("--log-level", *log_level, "trace, debug, info, warn, error or off")
      ->capture_default_str();
}
inline Status StartLog(const std::string& log_level) {
  TC_ASSIGN_OR_RETURN(const LogLevel level, ParseLogLevel(log_level));
  ConfigureLog({level, LogFormat::kText, ""});
  return OkStatus();
}

// Readers of stdout that go away (`| head`) are no reason to die silently.
inline void IgnoreClosedPipes() { std::signal(SIGPIPE, SIG_IGN); }

// The exit code; a failure is told on stderr, after the name of the program.
inline int EndProgram(const CLI::App& app, const Status& status) {
  if (!status.ok()) {
    std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), status.message().c_str());
  }
  return ExitCodeOf(status);
}

}  // namespace thermocline::tools
