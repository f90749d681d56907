#include "tools/profile/perplexity.h"

#include <cmath>

#include "base/str.h"
#include "tools/profile/progress.h"

namespace thermocline::tools {

Result<Perplexity> MeasurePerplexity(const worker::LoadedModel& model, const TextWindows& text,
                                     const RunnerOptions& options, const std::string& what,
                                     bool quiet) {
  TC_ASSIGN_OR_RETURN(const auto runner, WindowRunner::Create(model, options));
  const kernels::Traffic before = runner->traffic();
  Progress progress(what, "tokens", text.n_tokens(), quiet);
  double log_sum = 0;
  Perplexity measured;
  for (const Window& window : text.windows) {
    TC_RETURN_IF_ERROR(runner->Run(window, true));
    for (const model::SampledToken& score : runner->scores()) {
      log_sum += static_cast<double>(score.logprob);
    }
    measured.n_tokens += runner->scores().size();
    if (!std::isfinite(log_sum)) {
      return InvalidArgument(
          Str("the model's scores are not numbers: its weights may have NaN or infinite values:",
              Kv("tokens_read", measured.n_tokens)));
    }
    progress.Advance(window.size());
  }
  if (measured.n_tokens == 0) return InvalidArgument("no token to score: the text is empty");
  measured.value = std::exp(-log_sum / static_cast<double>(measured.n_tokens));
  measured.seconds = progress.seconds();
  measured.traffic = runner->traffic() - before;
  return measured;
}

}  // namespace thermocline::tools
