#include "worker/graphs_flag.h"

#include "base/str.h"

namespace thermocline::worker {

Result<bool> ParseCudaGraphs(std::string_view text) {
  if (text == "auto" || text == "off") return text == "auto";
  return InvalidArgument(Str("--cuda-graphs: ", Printable(text), " is neither auto nor off"));
}

}  // namespace thermocline::worker
