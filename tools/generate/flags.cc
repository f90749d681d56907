#include "tools/generate/flags.h"

#include <charconv>

#include "base/str.h"
#include "model/ffn_mode.h"
#include "model/kv_dtype.h"
#include "model/text_decoder.h"
#include "worker/graphs_flag.h"

namespace thermocline::tools {

Status CheckGenerateFlags(const GenerateFlags& flags) {
  const int n_prompts = (flags.has_prompt ? 1 : 0) + (flags.prompt_tokens.empty() ? 0 : 1) +
                        (flags.prompt_path.empty() ? 0 : 1);
  if (n_prompts != 1) {
    return InvalidArgument(
        "give the prompt once: as --prompt TEXT, --file PATH or --prompt-tokens 1,2,3");
  }
  const auto stops = model::StopMatcher::Create(flags.stops);
  if (!stops.ok()) return stops.status().WithContext("--stop");
  if (flags.n_predict < -1 || flags.n_predict == 0) {
    return InvalidArgument(
        Str("-n must be at least 1, or -1 for no limit:", Kv("n", flags.n_predict)));
  }
  if (flags.n_threads < 0) {
    return InvalidArgument(Str("--threads must not be negative:", Kv("threads", flags.n_threads)));
  }
  constexpr int kMaxChunk = 8192;  // rows of scratch: 8192 * 16384 floats is 512 MiB
  if (flags.prefill_chunk < 1 || flags.prefill_chunk > kMaxChunk) {
    return InvalidArgument(
        Str("--batch-size out of range:", Kv("tokens", flags.prefill_chunk), Kv("max", kMaxChunk)));
  }
  TC_RETURN_IF_ERROR(model::ParseFfnWish(flags.ffn, flags.allowed_loss).status());
  TC_RETURN_IF_ERROR(model::ParseKvDtype(flags.kv_dtype).status());
  TC_RETURN_IF_ERROR(worker::ParseCudaGraphs(flags.cuda_graphs).status());
  return flags.sampling.Validate();
}

Result<std::vector<int32_t>> ParseTokenIds(const std::string& text) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  while (true) {
    int32_t id = 0;
    while (at < end && *at == ' ') ++at;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || (next != end && *next != ',')) {
      return InvalidArgument(Str("--prompt-tokens is not a list like 1,2,3: \"",
                                 Printable({at, static_cast<size_t>(end - at)}, 20), "\""));
    }
    ids.push_back(id);
    if (next == end) return ids;
    at = next + 1;
  }
}

}  // namespace thermocline::tools
