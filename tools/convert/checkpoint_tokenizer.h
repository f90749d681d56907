// The tokenizer of a checkpoint folder as GGUF metadata.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "model/gguf_metadata.h"

namespace thermocline::tools {

// Reads tokenizer.model (SentencePiece) where there is one, else tokenizer.json (byte-level BPE),
// and special tokens and chat template from tokenizer_config.json and config.json. Without any
// tokenizer the model gets none. Vocabularies shorter than n_vocab are filled up with unused
// tokens. kInvalidArgument names a kind of tokenizer or a pre-tokenizer that is not supported;
// kDataLoss for broken files.
Status SetTokenizerMetadata(const std::string& folder, int64_t n_vocab,
                            model::GgufMetadata* metadata);

}  // namespace thermocline::tools
