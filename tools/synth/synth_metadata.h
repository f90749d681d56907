// The metadata of a synthetic model, its tokenizer included.
#pragma once

#include "model/gguf_metadata.h"
#include "tools/synth/synth_options.h"

namespace thermocline::tools {

// <unk>, <s>, </s> and the 256 bytes, with which any text can be written.
inline constexpr int64_t kMinVocab = 259;

// A SentencePiece vocabulary: the above, then printable characters, then made-up words.
model::GgufMetadata SynthMetadata(const SynthOptions& options);

}  // namespace thermocline::tools
