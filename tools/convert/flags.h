// The settings of `thermocline convert` as people give them.
#pragma once

#include <string>

#include "base/status.h"
#include "tools/convert/conversion_plan.h"

namespace thermocline::tools {

struct ConvertFlags {
  std::string input;
  std::string output;        // may be "" with dry_run
  std::string dtype;         // "" = keep
  std::string output_dtype;  // "" = as the others
  bool neuron_rows = false;
  bool explain = false;
  bool dry_run = false;
  int n_threads = 0;  // 0 = all cores
};

// Checks what can be checked without the model. kInvalidArgument names the flag.
Result<ConversionOptions> ReadConvertFlags(const ConvertFlags& flags);

}  // namespace thermocline::tools
