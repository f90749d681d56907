#include "model/ffn_mode.h"

#include "base/str.h"

namespace thermocline::model {

std::string_view FfnModeName(FfnMode mode) {
  switch (mode) {
    case FfnMode::kDense:
      return "dense";
    case FfnMode::kExact:
      return "exact";
    case FfnMode::kPredicted:
      return "predicted";
    case FfnMode::kThresholded:
      return "thresholded";
  }
  return "?";
}

Result<FfnMode> ParseFfnMode(std::string_view name) {
  std::string known;
  for (const FfnMode mode : kFfnModes) {
    if (FfnModeName(mode) == name) return mode;
    known += Str(" ", FfnModeName(mode));
  }
  return InvalidArgument(Str("unknown --ffn \"", Printable(name), "\"; one of", known));
}

Result<FfnWish> ParseFfnWish(std::string_view ffn, std::optional<double> allowed_loss) {
  if (allowed_loss && !(*allowed_loss >= 0)) {
    return InvalidArgument(Str("--allow-loss must be 0 or more:", Kv("loss", *allowed_loss)));
  }
  FfnWish wish{std::nullopt, allowed_loss};
  if (ffn == "auto") return wish;
  Result<FfnMode> mode = ParseFfnMode(ffn);
  if (!mode.ok()) return InvalidArgument(Str(mode.status().message(), " auto"));
  wish.forced = *mode;
  return wish;
}

std::string FfnWishText(const FfnWish& wish, FfnModes modes) {
  if (wish.forced) return std::string(FfnModeName(*wish.forced));
  return Str("auto (", FfnModesText(modes), ")");
}

Result<FfnModes> FfnModes::FromBits(uint32_t bits) {
  FfnModes modes;
  for (const FfnMode mode : kFfnModes) {
    if ((bits & Bit(mode)) != 0) modes.Add(mode);
  }
  if (modes.bits_ == bits && bits != 0) return modes;
  return InvalidArgument(Str("not a set of FFN modes:", Kv("bits", bits)));
}

std::string FfnModesText(FfnModes modes) {
  std::string text;
  int left = modes.size();
  for (const FfnMode mode : kFfnModes) {
    if (!modes.Has(mode)) continue;
    text += FfnModeName(mode);
    --left;
    text += left == 0 ? "" : left == 1 ? " or " : ", ";
  }
  return text;
}

}  // namespace thermocline::model
