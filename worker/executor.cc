#include "worker/executor.h"

#include "base/str.h"

namespace thermocline::worker {
namespace {

using model::OpKind;

kernels::RopePairing ToKernel(model::RopePairing pairing) {
  return pairing == model::RopePairing::kAdjacent ? kernels::RopePairing::kAdjacent
                                                  : kernels::RopePairing::kHalves;
}

kernels::Activation ToKernel(model::Activation activation) {
  switch (activation) {
    case model::Activation::kSilu:
      return kernels::Activation::kSilu;
    case model::Activation::kRelu:
      return kernels::Activation::kRelu;
    case model::Activation::kReluSquared:
      return kernels::Activation::kReluSquared;
  }
  return kernels::Activation::kSilu;
}

kernels::RopeArgs RopeArgsOf(const model::RopeConfig& rope, TensorView freq_divisors) {
  kernels::RopeArgs args;
  args.pairing = ToKernel(rope.pairing);
  args.n_rot = rope.n_rot;
  args.freq_base = rope.freq_base;
  args.freq_scale = rope.freq_scale;
  if (!freq_divisors.empty()) {
    args.freq_divisors = {freq_divisors.f32_row(0), static_cast<size_t>(freq_divisors.n_cols)};
  }
  return args;
}

}  // namespace

Result<Executor> Executor::Create(const model::ModelConfig& config, kernels::Device& device,
                                  int64_t scratch_cols, int max_rows) {
  Executor executor(config, device);
  executor.max_rows_ = max_rows;
  if (config.has_learned_positions()) {
    executor.position_ids_.reserve(static_cast<size_t>(max_rows));
  }
  const auto n_elems = static_cast<uint64_t>(scratch_cols * max_rows);
  TC_ASSIGN_OR_RETURN(executor.scratch_, device.Allocate(sizeof(float) * n_elems));
  return executor;
}

TensorView Executor::Input(int64_t n_rows) const {
  return TensorView::F32(reinterpret_cast<float*>(scratch_.data()), n_rows, config_->n_embd);
}

TensorView Executor::View(const Program& program, int slot, int64_t n_rows) const {
  if (slot == kNoSlot) return TensorView{};
  const Slot& place = program.slots()[static_cast<size_t>(slot)];
  auto* data = reinterpret_cast<float*>(scratch_.data()) + place.offset_cols * max_rows_;
  return TensorView::F32(data, n_rows, place.n_cols);
}

kernels::ActiveIds Executor::Ids(const Program& program, int slot) const {
  if (slot == kNoSlot) return kernels::ActiveIds::All();
  const TensorView list = View(program, slot, 1);
  auto* words = reinterpret_cast<int32_t*>(list.data);
  return {words + 1, words, static_cast<int32_t>(list.n_cols - 1)};
}

Status Executor::Run(const Program& program, OpRange range, const BatchRows& rows, int64_t n_rows,
                     KvCache* kv) {
  DCHECK(n_rows <= max_rows_);
  if (observer_ != nullptr) observer_->OnRun();
  for (size_t i = range.begin; i < range.end; ++i) {
    const LoweredOp& op = program.ops()[i];
    TC_RETURN_IF_ERROR(RunOp(program, op, rows, n_rows, kv));
    if (observer_ != nullptr) {
      observer_->OnOp(op, View(program, op.inputs[0], n_rows), View(program, op.output, n_rows));
    }
  }
  return OkStatus();
}

Status Executor::RunOp(const Program& program, const LoweredOp& op, const BatchRows& rows,
                       int64_t n_rows, KvCache* kv) {
  kernels::Ops& ops = device_->ops();
  const auto in = [&](int i) { return View(program, op.inputs[static_cast<size_t>(i)], n_rows); };
  const TensorView out = View(program, op.output, n_rows);
  switch (op.kind) {
    case OpKind::kEmbed:
      ops.Embed(op.weight, rows.tokens, out);
      break;
    case OpKind::kEmbedPosition:
      RunEmbedPosition(op, rows, out);
      break;
    case OpKind::kNorm:
      RunNorm(op, in(0), out);
      break;
    case OpKind::kMatMul:
      ops.MatMul(op.weight, in(0), op.bias, out);
      break;
    case OpKind::kRope:
      RunRope(op, rows, in(0), in(1));
      break;
    case OpKind::kAttention:
      RunAttention(op, rows, *kv, in(0), in(1), in(2), out);
      break;
    case OpKind::kAdd:
      ops.Add(in(0), in(1), out);
      break;
    case OpKind::kActivate:
      ops.Activate(ToKernel(op.activation), in(0), in(1), out);
      break;
    case OpKind::kSelectActive:
      ops.SelectActive(in(0), Ids(program, op.output));
      break;
    case OpKind::kSelectAtLeast:
      ops.SelectAtLeast(View(program, op.scores, n_rows), op.threshold, Ids(program, op.output));
      break;
    case OpKind::kZeroBelow:
      ops.ZeroBelow(out, op.threshold);
      break;
    case OpKind::kNeurons:
      RunNeurons(program, op, n_rows, out);
      break;
    case OpKind::kAxpyRows:
      ops.AxpyRows(op.weight, in(0), Ids(program, op.active_ids), op.bias, out);
      break;
    case OpKind::kSend:
      return exchange_->Send(op.layer_in_stage, in(0));
    case OpKind::kReceive:
      return exchange_->Receive(op.layer_in_stage, op.peer, out);
  }
  return OkStatus();
}

void Executor::RunNeurons(const Program& program, const LoweredOp& op, int64_t n_rows,
                          TensorView a) {
  const kernels::NeuronNeeds needs = {.activations = View(program, op.inputs[1], n_rows),
                                      .scores = View(program, op.scores, n_rows),
                                      .threshold = op.threshold};
  device_->ops().Neurons(op.neurons, ToKernel(op.activation), View(program, op.inputs[0], n_rows),
                         Ids(program, op.active_ids), needs, a);
}

void Executor::RunEmbedPosition(const LoweredOp& op, const BatchRows& rows, TensorView x) {
  position_ids_.clear();
  for (const int64_t position : rows.positions) {
    position_ids_.push_back(static_cast<int32_t>(position + config_->position_offset));
  }
  device_->ops().Embed(op.weight, position_ids_, x);
}

void Executor::RunNorm(const LoweredOp& op, TensorView x, TensorView y) {
  if (config_->norm == model::NormKind::kRms) {
    device_->ops().RmsNorm(x, op.weight, config_->norm_eps, y);
  } else {
    device_->ops().LayerNorm(x, op.weight, op.bias, config_->norm_eps, y);
  }
}

void Executor::RunRope(const LoweredOp& op, const BatchRows& rows, TensorView q, TensorView k) {
  const kernels::RopeArgs args = RopeArgsOf(config_->rope, op.bias);
  device_->ops().Rope(args, rows.positions, config_->head_dim, q);
  device_->ops().Rope(args, rows.positions, config_->head_dim, k);
}

void Executor::RunAttention(const LoweredOp& op, const BatchRows& rows, KvCache& kv, TensorView q,
                            TensorView k, TensorView v, TensorView y) {
  const kernels::KvPages pages = kv.Layer(op.layer_in_stage);
  device_->ops().StoreKv(k, v, rows.sequences, pages);
  device_->ops().Attention(q, rows.sequences, pages, config_->attention_scale, y);
}

}  // namespace thermocline::worker
