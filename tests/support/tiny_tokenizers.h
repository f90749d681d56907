// Small vocabularies made in code, for tests and fuzz targets.
#pragma once

#include "model/tokenizer.h"

namespace thermocline::testing {

// SentencePiece style: <unk> <s> </s>, the 256 byte tokens, <sep> (user-defined), <|im_end|>
// (control), and pieces that spell "▁hello", "▁world" and a few of their parts.
model::TokenizerData TinySpm();

// GPT-2 style: the 256 byte characters, a few merges up to "Ġhello", "<sep>" (user-defined),
// "<|im_start|>", "<|im_end|>" and "<|endoftext|>" (control, the last being eos).
model::TokenizerData TinyBpe(const std::string& pre);

}  // namespace thermocline::testing
