// How an FFN decides which neurons to compute, and what a model may be asked for.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline::model {

// DESIGN section 3. Dense and exact give the same bits over the same neuron rows; the others leave
// something out.
enum class FfnMode : uint8_t {
  kDense,        // every neuron
  kExact,        // gate (or up, if ungated) for all, the rest only where the activation is not 0
  kPredicted,    // only the neurons that a predictor names
  kThresholded,  // as exact, but activations below a threshold count as 0
};
inline constexpr std::array kFfnModes = {FfnMode::kDense, FfnMode::kExact, FfnMode::kPredicted,
                                         FfnMode::kThresholded};
std::string_view FfnModeName(FfnMode mode);
// The inverse; kInvalidArgument lists the modes.
Result<FfnMode> ParseFfnMode(std::string_view name);

// A set of modes: those a stage may choose from, per layer and batch.
class FfnModes {
 public:
  constexpr FfnModes() = default;
  constexpr FfnModes(FfnMode mode) : bits_(Bit(mode)) {}  // one mode is a set too
  // kInvalidArgument when a bit stands for no mode, or none is set.
  static Result<FfnModes> FromBits(uint32_t bits);

  constexpr void Add(FfnMode mode) { bits_ |= Bit(mode); }
  constexpr bool Has(FfnMode mode) const { return (bits_ & Bit(mode)) != 0; }
  constexpr int size() const { return std::popcount(bits_); }
  constexpr uint32_t bits() const { return bits_; }
  // Every mode but dense adds single rows of the down projection.
  constexpr bool needs_neuron_rows() const { return (bits_ & ~Bit(FfnMode::kDense)) != 0; }
  friend constexpr bool operator==(FfnModes, FfnModes) = default;

 private:
  static constexpr uint32_t Bit(FfnMode mode) { return 1u << static_cast<uint32_t>(mode); }
  uint32_t bits_ = 0;
};
// "dense", "dense or exact", "dense, exact or predicted".
std::string FfnModesText(FfnModes modes);

// What the user asks for by --ffn and --allow-loss.
struct FfnWish {
  std::optional<FfnMode> forced;       // none: auto
  std::optional<double> allowed_loss;  // of perplexity, relative; none: what the file allows

  // Whether predictors or thresholds could be used at all.
  bool needs_sparsity() const {
    return !forced || *forced == FfnMode::kPredicted || *forced == FfnMode::kThresholded;
  }
};
// --ffn's "auto" or a mode, with --allow-loss. kInvalidArgument lists the modes, or tells that a
// loss is not 0 or more.
Result<FfnWish> ParseFfnWish(std::string_view ffn, std::optional<double> allowed_loss);
// "exact", or "auto (dense or exact)" with what it chooses from.
std::string FfnWishText(const FfnWish& wish, FfnModes modes);

}  // namespace thermocline::model
