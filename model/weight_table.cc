#include "model/weight_table.h"

#include <array>

#include "base/check.h"

namespace thermocline::model {
namespace {

using Role = WeightRole;

// A matrix w[rows, cols], of the model or of each layer.
constexpr WeightSpec Whole(Role role, std::string_view name, Dim rows, Dim cols) {
  return {role, name, rows, cols, false, false};
}
constexpr WeightSpec Layer(Role role, std::string_view name, Dim rows, Dim cols) {
  return {role, name, rows, cols, true, false};
}
// A vector, F32.
constexpr WeightSpec WholeVector(Role role, std::string_view name, Dim cols) {
  return {role, name, Dim::kNone, cols, false, true};
}
constexpr WeightSpec LayerVector(Role role, std::string_view name, Dim cols,
                                 std::string_view alias = {}) {
  return {role, name, Dim::kNone, cols, true, true, alias};
}

// In the order of WeightRole.
constexpr std::array<WeightSpec, kNumWeightRoles> kSpecs = {
    Whole(Role::kTokenEmbd, "token_embd.weight", Dim::kVocab, Dim::kEmbd),
    Whole(Role::kPositionEmbd, "position_embd.weight", Dim::kPositions, Dim::kEmbd),
    WholeVector(Role::kOutputNorm, "output_norm.weight", Dim::kEmbd),
    WholeVector(Role::kOutputNormBias, "output_norm.bias", Dim::kEmbd),
    Whole(Role::kOutput, "output.weight", Dim::kVocab, Dim::kEmbd),
    WholeVector(Role::kRopeFreqs, "rope_freqs.weight", Dim::kRopePairs),
    LayerVector(Role::kAttnNorm, "attn_norm.weight", Dim::kEmbd),
    LayerVector(Role::kAttnNormBias, "attn_norm.bias", Dim::kEmbd),
    Layer(Role::kAttnQ, "attn_q.weight", Dim::kQ, Dim::kEmbd),
    LayerVector(Role::kAttnQBias, "attn_q.bias", Dim::kQ),
    Layer(Role::kAttnK, "attn_k.weight", Dim::kKv, Dim::kEmbd),
    LayerVector(Role::kAttnKBias, "attn_k.bias", Dim::kKv),
    Layer(Role::kAttnV, "attn_v.weight", Dim::kKv, Dim::kEmbd),
    LayerVector(Role::kAttnVBias, "attn_v.bias", Dim::kKv),
    Layer(Role::kAttnOutput, "attn_output.weight", Dim::kEmbd, Dim::kQ),
    LayerVector(Role::kAttnOutputBias, "attn_output.bias", Dim::kEmbd),
    LayerVector(Role::kFfnNorm, "ffn_norm.weight", Dim::kEmbd),
    LayerVector(Role::kFfnNormBias, "ffn_norm.bias", Dim::kEmbd),
    Layer(Role::kFfnGate, "ffn_gate.weight", Dim::kFf, Dim::kEmbd),
    LayerVector(Role::kFfnGateBias, "ffn_gate.bias", Dim::kFf),
    Layer(Role::kFfnUp, "ffn_up.weight", Dim::kFf, Dim::kEmbd),
    LayerVector(Role::kFfnUpBias, "ffn_up.bias", Dim::kFf),
    Layer(Role::kFfnDown, "ffn_down.weight", Dim::kEmbd, Dim::kFf),
    Layer(Role::kFfnDownT, "ffn_down_t.weight", Dim::kFf, Dim::kEmbd),
    LayerVector(Role::kFfnDownBias, "ffn_down.bias", Dim::kEmbd,
                "ffn_down_t.bias"),  // PowerInfer's
    Layer(Role::kPredictorFc1, "fc1.weight", Dim::kPredictor, Dim::kEmbd),
    Layer(Role::kPredictorFc2, "fc2.weight", Dim::kFf, Dim::kPredictor),
};

constexpr bool InRoleOrder() {
  for (size_t i = 0; i < kSpecs.size(); ++i) {
    if (kSpecs[i].role != static_cast<Role>(i)) return false;
  }
  return true;
}
static_assert(InRoleOrder());

constexpr bool kRequired = true;
constexpr bool kOptional = false;

// Without output.weight the head reads token_embd.weight. A layer has either form of ffn_down.
constexpr RoleUse kLlama[] = {
    {Role::kTokenEmbd, kRequired},      {Role::kOutputNorm, kRequired},
    {Role::kOutput, kOptional},         {Role::kRopeFreqs, kOptional},
    {Role::kAttnNorm, kRequired},       {Role::kAttnQ, kRequired},
    {Role::kAttnQBias, kOptional},      {Role::kAttnK, kRequired},
    {Role::kAttnKBias, kOptional},      {Role::kAttnV, kRequired},
    {Role::kAttnVBias, kOptional},      {Role::kAttnOutput, kRequired},
    {Role::kAttnOutputBias, kOptional}, {Role::kFfnNorm, kRequired},
    {Role::kFfnGate, kRequired},        {Role::kFfnGateBias, kOptional},
    {Role::kFfnUp, kRequired},          {Role::kFfnUpBias, kOptional},
    {Role::kFfnDown, kOptional},        {Role::kFfnDownT, kOptional},
    {Role::kFfnDownBias, kOptional},
};

constexpr RoleUse kPowerInferLlama[] = {
    {Role::kTokenEmbd, kRequired},    {Role::kOutputNorm, kRequired},
    {Role::kOutput, kOptional},       {Role::kRopeFreqs, kOptional},
    {Role::kAttnNorm, kRequired},     {Role::kAttnQ, kRequired},
    {Role::kAttnK, kRequired},        {Role::kAttnV, kRequired},
    {Role::kAttnOutput, kRequired},   {Role::kFfnNorm, kRequired},
    {Role::kFfnGate, kRequired},      {Role::kFfnUp, kRequired},
    {Role::kFfnDownT, kRequired},     {Role::kPredictorFc1, kOptional},
    {Role::kPredictorFc2, kOptional},
};

constexpr RoleUse kQwen2[] = {
    {Role::kTokenEmbd, kRequired}, {Role::kOutputNorm, kRequired}, {Role::kOutput, kOptional},
    {Role::kRopeFreqs, kOptional}, {Role::kAttnNorm, kRequired},   {Role::kAttnQ, kRequired},
    {Role::kAttnQBias, kRequired}, {Role::kAttnK, kRequired},      {Role::kAttnKBias, kRequired},
    {Role::kAttnV, kRequired},     {Role::kAttnVBias, kRequired},  {Role::kAttnOutput, kRequired},
    {Role::kFfnNorm, kRequired},   {Role::kFfnGate, kRequired},    {Role::kFfnUp, kRequired},
    {Role::kFfnDown, kOptional},   {Role::kFfnDownT, kOptional},
};

constexpr RoleUse kArcee[] = {
    {Role::kTokenEmbd, kRequired}, {Role::kOutputNorm, kRequired}, {Role::kOutput, kOptional},
    {Role::kRopeFreqs, kOptional}, {Role::kAttnNorm, kRequired},   {Role::kAttnQ, kRequired},
    {Role::kAttnQBias, kOptional}, {Role::kAttnK, kRequired},      {Role::kAttnKBias, kOptional},
    {Role::kAttnV, kRequired},     {Role::kAttnVBias, kOptional},  {Role::kAttnOutput, kRequired},
    {Role::kFfnNorm, kRequired},   {Role::kFfnUp, kRequired},      {Role::kFfnDown, kOptional},
    {Role::kFfnDownT, kOptional},
};

constexpr RoleUse kNemotron[] = {
    {Role::kTokenEmbd, kRequired},      {Role::kOutputNorm, kRequired},
    {Role::kOutputNormBias, kRequired}, {Role::kOutput, kOptional},
    {Role::kRopeFreqs, kOptional},      {Role::kAttnNorm, kRequired},
    {Role::kAttnNormBias, kRequired},   {Role::kAttnQ, kRequired},
    {Role::kAttnQBias, kOptional},      {Role::kAttnK, kRequired},
    {Role::kAttnKBias, kOptional},      {Role::kAttnV, kRequired},
    {Role::kAttnVBias, kOptional},      {Role::kAttnOutput, kRequired},
    {Role::kAttnOutputBias, kOptional}, {Role::kFfnNorm, kRequired},
    {Role::kFfnNormBias, kRequired},    {Role::kFfnUp, kRequired},
    {Role::kFfnUpBias, kOptional},      {Role::kFfnDown, kOptional},
    {Role::kFfnDownT, kOptional},       {Role::kFfnDownBias, kOptional},
};

constexpr RoleUse kOpt[] = {
    {Role::kTokenEmbd, kRequired},      {Role::kPositionEmbd, kRequired},
    {Role::kOutputNorm, kRequired},     {Role::kOutputNormBias, kRequired},
    {Role::kOutput, kOptional},         {Role::kAttnNorm, kRequired},
    {Role::kAttnNormBias, kRequired},   {Role::kAttnQ, kRequired},
    {Role::kAttnQBias, kRequired},      {Role::kAttnK, kRequired},
    {Role::kAttnKBias, kRequired},      {Role::kAttnV, kRequired},
    {Role::kAttnVBias, kRequired},      {Role::kAttnOutput, kRequired},
    {Role::kAttnOutputBias, kRequired}, {Role::kFfnNorm, kRequired},
    {Role::kFfnNormBias, kRequired},    {Role::kFfnUp, kRequired},
    {Role::kFfnUpBias, kRequired},      {Role::kFfnDown, kOptional},
    {Role::kFfnDownT, kOptional},       {Role::kFfnDownBias, kRequired},
    {Role::kPredictorFc1, kOptional},   {Role::kPredictorFc2, kOptional},
};

}  // namespace

std::string_view DimName(Dim dim) {
  switch (dim) {
    case Dim::kNone:
      return "";
    case Dim::kVocab:
      return "n_vocab";
    case Dim::kPositions:
      return "n_position_rows";
    case Dim::kEmbd:
      return "n_embd";
    case Dim::kQ:
      return "n_head*head_dim";
    case Dim::kKv:
      return "n_head_kv*head_dim";
    case Dim::kFf:
      return "n_ff";
    case Dim::kRopePairs:
      return "n_rot/2";
    case Dim::kPredictor:
      return "n_predictor";
  }
  return "?";
}

const WeightSpec& SpecOf(WeightRole role) { return kSpecs[static_cast<size_t>(role)]; }

std::span<const RoleUse> RolesOf(const ModelConfig& config) {
  switch (config.arch) {
    case Architecture::kLlama:
    case Architecture::kBamboo:
      if (config.dialect == GgufDialect::kPowerInfer) return kPowerInferLlama;
      return kLlama;
    case Architecture::kQwen2:
      return kQwen2;
    case Architecture::kArcee:
      return kArcee;
    case Architecture::kNemotron:
      return kNemotron;
    case Architecture::kOpt:
      return kOpt;
  }
  CHECK(false);
}

}  // namespace thermocline::model
