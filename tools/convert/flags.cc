#include "tools/convert/flags.h"

#include "base/str.h"

namespace thermocline::tools {

Result<ConversionOptions> ReadConvertFlags(const ConvertFlags& flags) {
  if (flags.n_threads < 0) {
    return InvalidArgument(Str("--threads must not be negative:", Kv("threads", flags.n_threads)));
  }
  ConversionOptions options;
  options.neuron_rows = flags.neuron_rows;
  if (!flags.dtype.empty()) {
    TC_ASSIGN_OR_RETURN(options.dtype, ParseWeightType(flags.dtype));
  }
  if (!flags.output_dtype.empty()) {
    TC_ASSIGN_OR_RETURN(options.output_dtype, ParseWeightType(flags.output_dtype));
  }
  if (flags.output.empty() && !flags.dry_run) {
    return InvalidArgument("say where to write: -o OUT.gguf (or --dry-run)");
  }
  return options;
}

}  // namespace thermocline::tools
