// What a worker needs besides weights and KV, and what a page of KV takes.
#include <algorithm>

#include "placement/plan.h"

namespace thermocline::placement {

uint64_t OverheadBytes(const model::ModelConfig& config, int max_step_tokens) {
  // Rows alive at once in one layer: x, its norm, attention out, ffn out and both ends of the link
  // (6 n_embd), q and attention (2 n_embd_q), k and v (2 n_embd_kv), gate, up and their product
  // (3 n_ff), F32.
  const uint64_t row_elems = 6 * uint64_t(config.n_embd) + 2 * uint64_t(config.n_embd_q()) +
                             2 * uint64_t(config.n_embd_kv()) + 3 * uint64_t(config.n_ff);
  // A stage's scratch never has fewer rows than a block of logits.
  const uint64_t n_rows = uint64_t(std::max(max_step_tokens, kLogitsBlockRows));
  // Of the head: x, its norm and the logits, F32; of the sampler, which looks at one row: a logit,
  // a token id and a double of weight per token of the vocabulary.
  const uint64_t head_elems = kLogitsBlockRows * (2 * uint64_t(config.n_embd) + config.n_vocab);
  return kRuntimeBytes + (n_rows * row_elems + head_elems) * sizeof(float) +
         16 * uint64_t(config.n_vocab);
}

uint64_t KvPageBytes(const model::ModelConfig& config, const KvBudget& kv) {
  return 2 * uint64_t(kv.page_tokens) * RowBytes(kv.dtype, uint64_t(config.n_embd_kv()));
}

}  // namespace thermocline::placement
