#include "model/tokenizer.h"

#include <utility>

#include "base/str.h"
#include "model/bpe_tokenizer.h"
#include "model/spm_tokenizer.h"

namespace thermocline::model {

Result<std::unique_ptr<Tokenizer>> MakeTokenizer(TokenizerData data) {
  if (data.model == "llama") return SpmTokenizer::Create(std::move(data));
  if (data.model == "gpt2") return BpeTokenizer::Create(std::move(data));
  return InvalidArgument(Str("unknown tokenizer: tokenizer.ggml.model=\"", Printable(data.model),
                             "\" supported=\"llama, gpt2\""));
}

}  // namespace thermocline::model
