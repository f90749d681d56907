// thermocline-profile: measures how a model uses its neurons, and makes files that let it skip
// them.
#include <CLI/CLI.hpp>

#include "tools/interrupt.h"
#include "tools/profile/command_line.h"
#include "tools/profile/run.h"
#include "tools/program.h"

int main(int argc, char** argv) {
  using namespace thermocline;
  tools::ProfileFlags flags;
  CLI::App app("", "thermocline profile");
  tools::DescribeProfile(&app, &flags);
  if (const auto code = tools::ParseArguments(app, argc, argv)) return *code;
  tools::IgnoreClosedPipes();
  tools::CatchInterrupts();
  const Status log = tools::StartLog(flags.log_level);
  return tools::EndProgram(app, log.ok() ? tools::RunProfile(flags) : log);
}
