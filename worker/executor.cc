#include "worker/executor.h"

#include <algorithm>

#include "base/check.h"

namespace thermocline::worker {
namespace {

constexpr int64_t kNoRows = -1;

}  // namespace

Executor::Executor(const model::ModelConfig& config, kernels::Device& device,
                   const ExecutorOptions& options)
    : n_embd_(config.n_embd),
      options_(options),
      on_(device),
      runs_(static_cast<size_t>(options.max_runs)),
      queue_(options.max_runs),
      device_(config, device, &runs_, options.max_rows),
      links_(device, &runs_),
      dispatcher_(&queue_, &device_, &links_) {}

Executor::~Executor() {
  // Copies into memory of ours may be on their way, after an error too.
  if (is_apart()) (void)on_.Synchronize();
}

Result<std::unique_ptr<Executor>> Executor::Create(const model::ModelConfig& config,
                                                   kernels::Device& device,
                                                   const ExecutorOptions& options) {
  std::unique_ptr<Executor> executor(new Executor(config, device, options));
  const auto n_elems = static_cast<uint64_t>(options.scratch_cols * options.max_rows);
  TC_ASSIGN_OR_RETURN(executor->scratch_, device.Allocate(sizeof(float) * n_elems));
  if (!device.reads_host_memory()) {
    TC_ASSIGN_OR_RETURN(executor->host_rows_,
                        HostRows::Create(device, {.n_embd = config.n_embd,
                                                  .max_rows = options.max_rows,
                                                  .n_members = options.n_members,
                                                  .most_cols = options.heads_cols}));
    executor->links_.set_host_rows(&*executor->host_rows_);
  }
  return executor;
}

bool Executor::AreFree(int64_t first_row, int64_t n_rows) const {
  for (int run = 0; run < options_.max_runs; ++run) {
    if (!queue_.IsUnderWay(run)) continue;
    const BatchRun& other = At(run);
    if (first_row < other.first_row + other.n_rows && other.first_row < first_row + n_rows) {
      return false;
    }
  }
  return first_row + n_rows <= options_.max_rows;
}

// The first that are free, so that batches which follow each other find the same: graphs are made
// for places.
int64_t Executor::FindRows(int64_t n_rows) const {
  if (AreFree(0, n_rows)) return 0;
  int64_t found = kNoRows;
  for (int run = 0; run < options_.max_runs; ++run) {
    if (!queue_.IsUnderWay(run)) continue;
    const int64_t end = At(run).first_row + At(run).n_rows;
    if (AreFree(end, n_rows) && (found == kNoRows || end < found)) found = end;
  }
  return found;
}

bool Executor::HasRoom(int64_t n_rows) const {
  return queue_.n_runs() < options_.max_runs && FindRows(n_rows) != kNoRows;
}

int Executor::FreeRun() const {
  int run = 0;
  while (queue_.IsUnderWay(run)) ++run;
  return run;
}

int Executor::Open(const BatchRows& rows, int64_t n_rows, StepId step) {
  DCHECK(n_rows > 0 && HasRoom(n_rows));
  const int run = FreeRun();
  BatchRun& state = runs_[static_cast<size_t>(run)];
  state = {.rows = rows, .n_rows = n_rows, .step = step, .first_row = FindRows(n_rows)};
  state.scratch =
      reinterpret_cast<float*>(scratch_.data()) + state.first_row * options_.scratch_cols;
  queue_.Enter(run);
  return run;
}

void Executor::Close() { queue_.Leave(queue_.oldest()); }

kernels::StepArguments Executor::ArgumentsOf(int run) {
  const BatchRows& rows = At(run).rows;
  return {rows.tokens, device_.PositionIds(rows), rows.positions, rows.sequences};
}

void Executor::TakeSpans(int run, SpanReplayer* replayer) {
  runs_[static_cast<size_t>(run)].in_spans = true;
  device_.set_replayer(replayer);
}

void Executor::Start(int run, const Program& program, KvCache* kv, bool times_ffn) {
  BatchRun& state = runs_[static_cast<size_t>(run)];
  state.program = &program;
  state.kv = kv;
  state.times_ffn = times_ffn;
  state.ffn_time = Duration{0};
  queue_.Start(run, state.in_spans ? program.spans().dag : program.dag());
  if (device_.observer() != nullptr) device_.observer()->OnRun();
}

TensorView Executor::Input(int run) const {
  return TensorView::F32(At(run).scratch, At(run).n_rows, n_embd_);
}

void Executor::SetInput(int run, TensorView x) {
  if (!is_apart()) return CopyRows(x, Input(run));
  const TensorView host = host_rows_->Ends(At(run));
  CopyRows(x, host);
  CopyToDevice(host, Input(run), on_);
}

void Executor::StartFetch(int run) {
  if (!is_apart()) return;
  CopyToHost(Input(run), host_rows_->Ends(At(run)), on_);
  MarkEnd(run);
}

void Executor::MarkEnd(int run) { runs_[static_cast<size_t>(run)].fetched = on_.Mark(); }

Status Executor::AwaitEnd(int run) { return on_.Wait(At(run).fetched); }

Result<TensorView> Executor::FetchInput(int run) {
  if (!is_apart()) return Input(run);
  TC_RETURN_IF_ERROR(AwaitEnd(run));
  return host_rows_->Ends(At(run));
}

}  // namespace thermocline::worker
