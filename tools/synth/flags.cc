#include "tools/synth/flags.h"

#include <sstream>
#include <string_view>

#include "base/str.h"
#include "base/units.h"
#include "model/config.h"
#include "tools/convert/conversion_plan.h"
#include "tools/synth/synth_metadata.h"

namespace thermocline::tools {
namespace {

struct SizeField {
  std::string_view name;
  int64_t SynthShape::*field;
  int64_t min, max;
};
constexpr SizeField kSizes[] = {{"n_embd", &SynthShape::n_embd, 2 * kConstantDims, model::kMaxEmbd},
                                {"n_ff", &SynthShape::n_ff, 32, model::kMaxFf},
                                {"n_layer", &SynthShape::n_layer, 1, model::kMaxLayers},
                                {"n_head", &SynthShape::n_head, 1, model::kMaxHeads},
                                {"n_head_kv", &SynthShape::n_head_kv, 1, model::kMaxHeads},
                                {"n_vocab", &SynthShape::n_vocab, kMinVocab, model::kMaxVocab},
                                {"n_ctx", &SynthShape::n_ctx, 1, model::kMaxContext}};

std::string SizeNames() {
  std::string names;
  for (const SizeField& size : kSizes) names += Str(" ", size.name);
  return names;
}

Status SetSize(const std::string& part, SynthShape* shape) {
  const size_t equals = part.find('=');
  const std::string name = part.substr(0, equals);
  for (const SizeField& size : kSizes) {
    if (size.name != name || equals == std::string::npos) continue;
    auto value = ParseCount(part.substr(equals + 1));
    if (!value.ok()) return value.status().WithContext(Str("--shape ", name));
    if (*value < size.min || *value > size.max) {
      return InvalidArgument(Str("--shape out of bounds: ", name, Kv("value", *value),
                                 Kv("min", size.min), Kv("max", size.max)));
    }
    shape->*size.field = *value;
    return OkStatus();
  }
  return InvalidArgument(
      Str("--shape has no part \"", Printable(part), "\"; name=value of", SizeNames()));
}

Status CheckHeads(const SynthShape& s) {
  if (s.n_embd % s.n_head != 0 || s.n_head % s.n_head_kv != 0 || s.head_dim() % 2 != 0 ||
      s.head_dim() > model::kMaxHeadDim) {
    return InvalidArgument(Str(
        "--shape: n_embd must be an even multiple of n_head, and n_head a multiple of n_head_kv:",
        Kv("n_embd", s.n_embd), Kv("n_head", s.n_head), Kv("n_head_kv", s.n_head_kv)));
  }
  return OkStatus();
}

Status CheckBlocks(std::string_view what, int64_t n, DType dtype) {
  const auto block = static_cast<int64_t>(Traits(dtype).block_elems);
  if (n % block == 0) return OkStatus();
  return InvalidArgument(Str("rows of ", what, " are not whole ", DTypeName(dtype),
                             " blocks:", Kv(what, n), Kv("block", block)));
}

Status CheckPredictor(const SynthOptions& options) {
  // One group of 32 units carries the bias, and both halves of the rest are at least one.
  constexpr int64_t kStep = 32, kMin = 96;
  if (options.n_predictor % kStep != 0 || options.n_predictor < kMin ||
      options.n_predictor > model::kMaxEmbd) {
    return InvalidArgument(Str("--predictor must be a multiple of ", kStep, " from ", kMin,
                               " on:", Kv("value", options.n_predictor)));
  }
  if (options.dtype == DType::kBF16 || options.predictor_dtype == DType::kBF16) {
    return InvalidArgument("PowerInfer's dialect has no type BF16");
  }
  TC_RETURN_IF_ERROR(CheckBlocks("predictor", options.n_predictor, options.predictor_dtype));
  return CheckBlocks("n_embd", options.shape.n_embd, options.predictor_dtype);
}

Status CheckLaw(const SynthOptions& options) {
  const std::pair<std::string_view, double> shares[] = {{"--density", options.density},
                                                        {"--hot-frac", options.hot_frac},
                                                        {"--hot-share", options.hot_share}};
  for (const auto& [flag, value] : shares) {
    if (value > 0 && value < 1) continue;
    return InvalidArgument(Str(flag, " must be between 0 and 1:", Kv("value", value)));
  }
  return OkStatus();
}

}  // namespace

Result<SynthShape> ParseShape(const std::string& text) {
  SynthShape shape;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    TC_RETURN_IF_ERROR(SetSize(part, &shape));
  }
  TC_RETURN_IF_ERROR(CheckHeads(shape));
  return shape;
}

Result<SynthOptions> ReadSynthFlags(const SynthFlags& flags) {
  SynthOptions options;
  TC_ASSIGN_OR_RETURN(options.shape, ParseShape(flags.shape));
  TC_ASSIGN_OR_RETURN(options.dtype, ParseWeightType(flags.dtype));
  options.powerinfer = flags.powerinfer;
  options.arch = !flags.arch.empty() ? flags.arch : flags.powerinfer ? "llama" : "arcee";
  if (options.arch != "llama" && options.arch != "arcee" && options.arch != "opt") {
    return InvalidArgument(
        Str("unknown --arch \"", Printable(options.arch), "\"; one of arcee llama opt"));
  }
  if (options.powerinfer && options.arch == "arcee") {
    return InvalidArgument("--pwri is for --arch llama or opt");
  }
  options.n_predictor = flags.n_predictor;
  TC_ASSIGN_OR_RETURN(
      options.predictor_dtype,
      ParseWeightType(flags.predictor_dtype.empty() ? flags.dtype : flags.predictor_dtype));
  options.density = flags.density;
  options.hot_frac = flags.hot_frac;
  options.hot_share = flags.hot_share;
  options.seed = flags.seed;
  TC_RETURN_IF_ERROR(CheckLaw(options));
  TC_RETURN_IF_ERROR(CheckBlocks("n_embd", options.shape.n_embd, options.dtype));
  TC_RETURN_IF_ERROR(CheckBlocks("n_ff", options.shape.n_ff, options.dtype));
  if (options.powerinfer) TC_RETURN_IF_ERROR(CheckPredictor(options));
  if (flags.n_threads < 0 || flags.check_tokens < 1 ||
      flags.check_tokens > options.shape.n_ctx / 2) {
    return InvalidArgument(
        Str("--threads or --check-tokens out of bounds:", Kv("threads", flags.n_threads),
            Kv("check_tokens", flags.check_tokens)));
  }
  return options;
}

}  // namespace thermocline::tools
