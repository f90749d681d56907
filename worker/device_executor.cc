#include "worker/device_executor.h"

namespace thermocline::worker {
namespace {

using model::OpKind;

static_assert(model::kSumChunk == kernels::kSumChunk, "plans cut where kernels round");

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

kernels::ActiveIds Ids(const BatchRun& run, int slot) {
  if (slot == kNoSlot) return kernels::ActiveIds::All();
  const TensorView list = run.View(slot);
  auto* words = reinterpret_cast<int32_t*>(list.data);
  return {words + 1, words, static_cast<int32_t>(list.n_cols - 1)};
}

// Drivers of CUDA take about 1000 launches before a call waits for room (measured by many, promised
// nowhere). An op is one to six launches, so DeviceExecutor::kMarks times these are safe; and they
// last a card some 100 us at least, far longer than the host needs to put in as many more.
constexpr uint64_t kOpsPerMark = 32;

bool IsOfGroup(OpKind kind) {
  return kind == OpKind::kBroadcast || kind == OpKind::kGroupSum || kind == OpKind::kGroupSend ||
         kind == OpKind::kGroupReceive;
}

bool WaitsForOthers(OpKind kind) { return kind == OpKind::kReceive || kind == OpKind::kGroupSum; }

}  // namespace

DeviceExecutor::DeviceExecutor(const model::ModelConfig& config, kernels::Device& device,
                               std::vector<BatchRun>* runs, int max_rows)
    : config_(&config),
      device_(&device),
      is_apart_(!device.reads_host_memory()),
      runs_(runs),
      looks_(device) {
  if (config.has_learned_positions()) position_ids_.reserve(static_cast<size_t>(max_rows));
}

void DeviceExecutor::set_firing(FiringCounter* firing) {
  firing_ = firing;
  if (firing != nullptr && is_apart_) looks_.Reserve(config_->n_ff);
}

void DeviceExecutor::set_tracer(Tracer* tracer, int first_layer) {
  tracer_ = tracer;
  first_layer_ = first_layer;
  if (tracer != nullptr) track_ = tracer->Track(kDeviceTrack);
}

Status DeviceExecutor::AwaitRoom() {
  if (!is_apart_ || is_recording_ || ++n_ops_ % kOpsPerMark != 0) return OkStatus();
  kernels::WorkMark& oldest = marks_[n_ops_ / kOpsPerMark % kMarks];
  if (oldest != 0) TC_RETURN_IF_ERROR(device_->Wait(oldest));
  oldest = device_->Mark();
  return OkStatus();
}

Result<bool> DeviceExecutor::Start(OpRef ref) {
  const BatchRun& run = (*runs_)[static_cast<size_t>(ref.run)];
  if (run.in_spans) return StartSpan(ref);
  TC_RETURN_IF_ERROR(RunOp(ref, run.op(ref.op)));
  return true;
}

Result<bool> DeviceExecutor::StartSpan(OpRef ref) {
  const std::span<const LoweredOp> ops = (*runs_)[static_cast<size_t>(ref.run)].ops(ref.op);
  const auto launch = [&]() -> Status {
    for (const LoweredOp& op : ops) TC_RETURN_IF_ERROR(RunOp(ref, op));
    return OkStatus();
  };
  const auto keep = [&] {
    is_recording_ = true;
    const Status launched = launch();
    is_recording_ = false;
    return launched;
  };
  TC_RETURN_IF_ERROR(AwaitRoom());
  TC_ASSIGN_OR_RETURN(const bool is_replayed, replayer_->ReplaySpan(ref, ops, std::ref(keep)));
  if (!is_replayed) TC_RETURN_IF_ERROR(launch());
  return true;
}

Status DeviceExecutor::RunOp(OpRef ref, const LoweredOp& op) {
  TC_RETURN_IF_ERROR(AwaitRoom());
  BatchRun& run = (*runs_)[static_cast<size_t>(ref.run)];
  if (timed_since_.run != kNoRun && timed_since_.run != ref.run) StopTiming();
  if (IsOfGroup(op.kind)) {
    TC_RETURN_IF_ERROR(RunInGroup(run, op));
  } else if (run.times_ffn && ref.op >= run.program->ffn_begin()) {
    RunTimed(ref, &run);
  } else {
    RunTraced(run, op);
  }
  return observer_ != nullptr ? Show(run, op) : OkStatus();
}

void DeviceExecutor::RunTimed(OpRef ref, BatchRun* run) {
  if (is_apart_) return TimeInQueue(ref, run);
  const TimePoint begin = clock_.Now();
  RunTraced(*run, run->op(ref.op));
  run->ffn_time += clock_.Now() - begin;
}

// Work of another run comes between: what would be measured is not the timed run's alone.
void DeviceExecutor::StopTiming() {
  (*runs_)[static_cast<size_t>(timed_since_.run)].times_ffn = false;
  timed_since_ = {};
}

// Put on the device's stream, as an op is; its time there is not the host's to know.
Status DeviceExecutor::RunInGroup(const BatchRun& run, const LoweredOp& op) {
  const TimePoint begin = tracer_ == nullptr ? TimePoint{} : tracer_->Now();
  const bool gives = op.inputs[0] != kNoSlot;
  const TensorView x = run.View(gives ? op.inputs[0] : op.output);
  TC_RETURN_IF_ERROR(CallGroup(run, op, x));
  if (tracer_ == nullptr) return OkStatus();
  tracer_->Add({.name = tracer_->NameOf(op),
                .track = track_,
                .layer = LayerOf(op, first_layer_),
                .step = run.step,
                .n_rows = run.n_rows,
                .n_bytes = x.bytes()},
               begin, tracer_->Now());
  return OkStatus();
}

Status DeviceExecutor::CallGroup(const BatchRun& run, const LoweredOp& op, TensorView x) {
  switch (op.kind) {
    case OpKind::kBroadcast:
      return group_->Broadcast({run.step, op.layer_in_stage, op.of_heads}, x, run.rows);
    case OpKind::kGroupSend:
      return group_->Send(x);
    case OpKind::kGroupReceive:
      return group_->Receive(op.peer, x);
    default:
      return group_->Sum(run.Sums(op.output));
  }
}

// From when the queue is empty until it is again, over the ops up to the next that must wait for
// others. Errors of the device are told by the next wait for it.
void DeviceExecutor::TimeInQueue(OpRef ref, BatchRun* run) {
  const auto& ops = run->program->ops();
  auto next = static_cast<size_t>(ref.op) + 1;
  while (next < ops.size() && ops[next].kind == OpKind::kSend) ++next;
  if (timed_since_.run != ref.run) {
    (void)device_->Synchronize();
    timed_since_ = ref;
    timed_begin_ = clock_.Now();
  }
  RunTraced(*run, run->op(ref.op));
  if (next < ops.size() && !WaitsForOthers(ops[next].kind)) return;
  (void)device_->Synchronize();
  run->ffn_time += clock_.Now() - timed_begin_;
  timed_since_ = {};
}

Status DeviceExecutor::Show(const BatchRun& run, const LoweredOp& op) {
  const TensorView input = run.View(op.inputs[0]), output = run.View(op.output);
  if (!is_apart_) {
    observer_->OnOp(op, input, output);
    return OkStatus();
  }
  const TensorView input_copy = CopyOf(input, &seen_input_);
  const TensorView output_copy = CopyOf(output, &seen_output_);
  TC_RETURN_IF_ERROR(device_->Synchronize());
  observer_->OnOp(op, input_copy, output_copy);
  return OkStatus();
}

// To come with the next wait for the device.
TensorView DeviceExecutor::CopyOf(TensorView value, std::vector<std::byte>* memory) {
  if (value.empty()) return value;
  memory->resize(value.bytes());
  device_->CopyToHost(value.data, memory->data(), value.bytes());
  value.data = memory->data();
  return value;
}

void DeviceExecutor::RunTraced(const BatchRun& run, const LoweredOp& op) {
  if (tracer_ == nullptr) return Run(run, op);
  const TimePoint begin = tracer_->Now();
  const kernels::Traffic before = device_->ops().traffic();
  Run(run, op);
  const kernels::Traffic read = device_->ops().traffic() - before;
  tracer_->Add({.name = tracer_->NameOf(op),
                .track = track_,
                .layer = LayerOf(op, first_layer_),
                .step = run.step,
                .n_rows = run.n_rows,
                .n_bytes = read.weight_bytes + read.kv_bytes},
               begin, tracer_->Now());
}

void DeviceExecutor::Run(const BatchRun& run, const LoweredOp& op) {
  kernels::Ops& ops = device_->ops();
  const auto in = [&](int i) { return run.View(op.inputs[static_cast<size_t>(i)]); };
  const TensorView out = run.View(op.output);
  switch (op.kind) {
    case OpKind::kEmbed:
      return ops.Embed(op.weight, run.rows.tokens, out);
    case OpKind::kEmbedPosition:
      return RunEmbedPosition(op, run.rows, out);
    case OpKind::kNorm:
      return RunNorm(op, in(0), out);
    case OpKind::kMatMul:
      return ops.MatMul(op.weight, in(0), op.bias, out);
    case OpKind::kRope:
      return RunRope(op, run.rows, in(0), in(1));
    case OpKind::kAttention:
      return RunAttention(op, run, out);
    case OpKind::kAdd:
      return ops.Add(in(0), in(1), out);
    case OpKind::kActivate:
      return ops.Activate(ToKernel(op.activation), in(0), in(1), out);
    case OpKind::kSelectActive:
      return ops.SelectActive(in(0), Ids(run, op.output));
    case OpKind::kSelectAtLeast:
      return ops.SelectAtLeast(run.View(op.scores), op.threshold, Ids(run, op.output));
    case OpKind::kZeroBelow:
      return ops.ZeroBelow(out, op.threshold);
    case OpKind::kNeurons:
      return RunNeurons(run, op, out);
    case OpKind::kAxpyRows:
      return RunAxpyRows(run, op);
    case OpKind::kAddSums:
      return ops.AddSums(run.Sums(op.output), run.Sums(op.inputs[1]));
    case OpKind::kRoundSums:
      return ops.RoundSums(run.Sums(op.inputs[0]), run.Sums(op.inputs[1]), op.bias, out);
    case OpKind::kSend:
    case OpKind::kReceive:
    case OpKind::kBroadcast:
    case OpKind::kGroupSum:
    case OpKind::kGroupSend:
    case OpKind::kGroupReceive:
      return;  // with other members
    case OpKind::kPlaceHeads:
      return ops.Copy(in(0), out.Cols(op.first_col, in(0).n_cols));
  }
}

void DeviceExecutor::RunNeurons(const BatchRun& run, const LoweredOp& op, TensorView a) {
  const kernels::NeuronNeeds needs = {.activations = run.View(op.inputs[1]),
                                      .scores = run.View(op.scores),
                                      .threshold = op.threshold};
  device_->ops().Neurons(op.neurons, ToKernel(op.activation), run.View(op.inputs[0]),
                         Ids(run, op.active_ids), needs, a);
}

void DeviceExecutor::RunAxpyRows(const BatchRun& run, const LoweredOp& op) {
  const TensorView a = run.View(op.inputs[0]);
  const kernels::ActiveIds active = Ids(run, op.active_ids);
  if (op.of_sums) {
    device_->ops().AxpySums(op.weight, a, active, run.Sums(op.output));
  } else {
    device_->ops().AxpyRows(op.weight, a, active, op.bias, run.View(op.output));
  }
  const bool is_listed = op.active_ids != kNoSlot;
  if (firing_ == nullptr || !is_listed || is_recording_ || run.in_spans) return;
  if (is_apart_) {
    looks_.OnNeurons(firing_, op.layer_in_stage, active, a);
  } else {
    firing_->OnNeurons(op.layer_in_stage, active, a);
  }
}

std::span<const int32_t> DeviceExecutor::PositionIds(const BatchRows& rows) {
  position_ids_.clear();
  if (!config_->has_learned_positions()) return position_ids_;
  for (const int64_t position : rows.positions) {
    position_ids_.push_back(static_cast<int32_t>(position + config_->position_offset));
  }
  return position_ids_;
}

void DeviceExecutor::RunEmbedPosition(const LoweredOp& op, const BatchRows& rows, TensorView x) {
  device_->ops().Embed(op.weight, PositionIds(rows), x);
}

void DeviceExecutor::RunNorm(const LoweredOp& op, TensorView x, TensorView y) {
  if (config_->norm == model::NormKind::kRms) {
    device_->ops().RmsNorm(x, op.weight, config_->norm_eps, y);
  } else {
    device_->ops().LayerNorm(x, op.weight, op.bias, config_->norm_eps, y);
  }
}

void DeviceExecutor::RunRope(const LoweredOp& op, const BatchRows& rows, TensorView q,
                             TensorView k) {
  const kernels::RopeArgs args = RopeArgsOf(config_->rope, op.bias);
  device_->ops().Rope(args, rows.positions, config_->head_dim, q);
  device_->ops().Rope(args, rows.positions, config_->head_dim, k);
}

void DeviceExecutor::RunAttention(const LoweredOp& op, const BatchRun& run, TensorView y) {
  const kernels::KvPages pages = run.kv->Layer(op.layer_in_stage);
  device_->ops().StoreKv(run.View(op.inputs[1]), run.View(op.inputs[2]), run.rows.sequences, pages);
  device_->ops().Attention(run.View(op.inputs[0]), run.rows.sequences, pages,
                           config_->attention_scale, y);
}

}  // namespace thermocline::worker
