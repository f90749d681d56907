// `--cuda-graphs`, as a worker and the programs that compute without one take it.
#pragma once

#include <string_view>

#include "base/status.h"

namespace thermocline::worker {

// Whether steps may be replayed (worker/step_graphs.h): "auto" is true, "off" false.
// kInvalidArgument names what is neither.
Result<bool> ParseCudaGraphs(std::string_view text);

inline constexpr char kCudaGraphsHelp[] =
    "Whether a GPU replays decode steps that come again and again in one shape, as one launch or a "
    "few: auto or off";

}  // namespace thermocline::worker
