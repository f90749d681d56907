// thermocline-profile: measures how a model uses its neurons, and makes files that let it skip
// them.
#include <csignal>
#include <cstdio>

#include "base/log.h"
#include "tools/profile/command_line.h"
#include "tools/profile/run.h"

int main(int argc, char** argv) {
  using namespace thermocline;
  tools::ProfileFlags flags;
  const int ended = tools::ParseProfileCommandLine(argc, argv, &flags);
  if (ended >= 0) return ended;
  std::signal(SIGPIPE, SIG_IGN);
  const auto level = ParseLogLevel(flags.log_level);
  if (level.ok()) ConfigureLog({*level, LogFormat::kText, ""});
  const Status status = level.ok() ? tools::RunProfile(flags) : level.status();
  if (status.ok()) return 0;
  std::fprintf(stderr, "thermocline profile: %s\n", status.message().c_str());
  const bool is_bad_input = status.code() == StatusCode::kInvalidArgument ||
                            status.code() == StatusCode::kNotFound ||
                            status.code() == StatusCode::kDataLoss;
  return is_bad_input ? 2 : 1;
}
