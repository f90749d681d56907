// Which FFN modes a model runs in, given what the user wants and what is known of its sparsity.
#pragma once

#include <string>

#include "base/status.h"
#include "model/config.h"
#include "model/ffn_mode.h"
#include "model/sparsity.h"

namespace thermocline::model {

// kInvalidArgument, with the reason and a cure, when the model cannot run in this mode at all.
Status CheckFfnMode(const ModelConfig& config, const Sparsity& sparsity, FfnMode mode);

// The same, and whether the mode costs no more perplexity than allowed: its measured loss against
// `wish.allowed_loss`, or else against what the sparsity file allows. Without a measurement the
// loss counts as infinite, but for predictors that are part of the model: these are accepted.
Status CheckFfnLoss(const Sparsity& sparsity, const FfnWish& wish, FfnMode mode);

// The modes to choose from. A forced mode that cannot be had is an error. auto: dense and, for
// activations with exact zeros, exact, which give the same bits over neuron rows; predicted and
// thresholded where the model can and their loss is allowed.
Result<FfnModes> ResolveFfnModes(const ModelConfig& config, const Sparsity& sparsity,
                                 const FfnWish& wish);

// A line for people when `modes` has predicted mode by predictors of the model's own whose loss
// nobody has measured; else "".
std::string UnmeasuredNote(const Sparsity& sparsity, FfnModes modes);

// What a layer runs when its stage runs `mode`: a layer without predictor or threshold of its own
// falls back to exact where that can be had, and to dense else.
FfnMode LayerFfnMode(const ModelConfig& config, const LayerSparsity& layer, FfnMode mode);

}  // namespace thermocline::model
