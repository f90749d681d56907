// The work of `thermocline bench`: models, cases, report.
#pragma once

#include "base/status.h"
#include "tools/bench_model/flags.h"

namespace thermocline::tools {

// The report goes to stdout, progress to stderr.
Status RunBench(const BenchFlags& flags);

}  // namespace thermocline::tools
