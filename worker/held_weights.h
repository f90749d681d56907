// Which of a stage's weights one of its members holds, and where they lie in the file.
#pragma once

#include <vector>

#include "model/weights.h"
#include "worker/shard.h"

namespace thermocline::worker {

// Of a lead everything but the neurons and heads of its helpers; of a helper its neurons' rows, and
// what computing them takes: the norm of x and the first half of a predictor. The bias of the sum
// is the lead's. Of its heads the same: rows of query, key and value, the norm and what divides the
// angles of rope. Says nothing of single rows.
bool IsHeld(const model::WeightKey& key, const model::LayerRange& layers, const FfnPlan& ffn);

// Under which key a weight of the file is held: ffn_down that is re-laid is kFfnDownT.
model::WeightKey KeyInMemory(const model::WeightKey& key, const FfnPlan& ffn);

// The ranges of those weights in a model of so many KV heads, neurons standing in that order.
// ffn_down is there as a whole: a neuron is a column of it. Ascending; touching ranges are merged,
// and so are rows with little between them.
std::vector<model::ByteRange> HeldRanges(const model::WeightIndex& weights,
                                         const std::vector<model::WeightKey>& keys,
                                         const model::LayerRange& layers, const FfnPlan& ffn,
                                         int n_head_kv, const model::NeuronOrder& order = {});

}  // namespace thermocline::worker
