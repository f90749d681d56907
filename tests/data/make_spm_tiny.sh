#!/bin/sh
# Trains spm_tiny.model, a SentencePiece BPE vocabulary with byte fallback, from tokenizer_corpus.txt
# with the settings of the Llama tokenizer: no normalisation, every space kept.
set -eu
cd "$(dirname "$0")"
spm_train --input=tokenizer_corpus.txt --model_prefix=spm_tiny --model_type=bpe --vocab_size=560 \
  --byte_fallback=true --normalization_rule_name=identity --remove_extra_whitespaces=false \
  --add_dummy_prefix=true --character_coverage=0.98 --split_digits=true \
  --allow_whitespace_only_pieces=true --num_threads=1
rm -f spm_tiny.vocab
