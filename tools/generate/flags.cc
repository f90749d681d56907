#include "tools/generate/flags.h"

#include <charconv>

#include "base/str.h"
#include "model/ffn_mode.h"

namespace thermocline::tools {

Status CheckGenerateFlags(const GenerateFlags& flags) {
  if (flags.has_prompt == !flags.prompt_tokens.empty()) {
    return InvalidArgument("give the prompt either as --prompt TEXT or as --prompt-tokens 1,2,3");
  }
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
  TC_RETURN_IF_ERROR(ParseKvDtype(flags.kv_dtype).status());
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

Result<DType> ParseKvDtype(const std::string& text) {
  if (text == "f32" || text == "auto") return DType::kF32;
  if (text == "f16") return DType::kF16;
  return InvalidArgument(Str("unknown --kv-cache-dtype \"", Printable(text), "\"; one of f32 f16"));
}

}  // namespace thermocline::tools
