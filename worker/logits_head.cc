#include "worker/logits_head.h"

#include <functional>
#include <utility>

#include "worker/host_rows.h"

namespace thermocline::worker {

LogitsHead::LogitsHead(Program program, kernels::Device& device, const LogitsHeadOptions& options)
    : program_(std::move(program)), device_(device), options_(options) {}

Result<std::unique_ptr<LogitsHead>> LogitsHead::Create(const model::ModelConfig& config,
                                                       Program program, kernels::Device& device,
                                                       const LogitsHeadOptions& options) {
  std::unique_ptr<LogitsHead> head(new LogitsHead(std::move(program), device, options));
  const ExecutorOptions scratch{.scratch_cols = head->program_.scratch_cols(),
                                .max_rows = options.max_rows};
  TC_ASSIGN_OR_RETURN(head->executor_, Executor::Create(config, device, scratch));
  TC_ASSIGN_OR_RETURN(head->reader_,
                      LogitsReader::Create(device, config.n_vocab, options.max_rows));
  head->executor_->set_observer(options.observer);
  head->executor_->set_tracer(options.tracer, options.first_layer);
  return head;
}

Result<TensorView> LogitsHead::Logits(TensorView activation, std::span<const int32_t> rows,
                                      StepId step) {
  const int run = executor_->Open(BatchRows{}, static_cast<int64_t>(rows.size()), step);
  TC_RETURN_IF_ERROR(Compute(activation, rows, run));
  executor_->Close();
  return reader_.Fetch(LogitsOf(run));
}

Result<TensorView> LogitsHead::Best(TensorView activation, std::span<const int32_t> rows, int k,
                                    StepId step) {
  const auto n_rows = static_cast<int64_t>(rows.size());
  const int run = executor_->Open(BatchRows{}, n_rows, step);
  TC_ASSIGN_OR_RETURN(const bool is_replayed, Replay(activation, rows, k, run));
  if (!is_replayed) TC_RETURN_IF_ERROR(ComputeBest(activation, rows, k, run));
  executor_->Close();
  return reader_.Fetch(reader_.Best(n_rows, k));
}

// The same graph serves whatever rows of an activation are asked for.
Result<bool> LogitsHead::Replay(TensorView activation, std::span<const int32_t> rows, int k,
                                int run) {
  if (options_.graphs == nullptr) return false;
  GraphTable::Entry* const entry = options_.graphs->Come(
      {.place = activation.data, .n_rows = static_cast<int64_t>(rows.size()), .n_best = k});
  if (entry == nullptr) return false;
  const auto launch = [&] {
    const Executor::Recorded recorded(executor_.get());
    return ComputeBest(activation, rows, k, run);
  };
  constexpr size_t kWhole = 0;
  TC_ASSIGN_OR_RETURN(const bool is_replayed,
                      options_.graphs->Replay(entry, kWhole, {.tokens = rows}, std::ref(launch)));
  if (is_replayed) ++n_replays_;
  return is_replayed;
}

Status LogitsHead::ComputeBest(TensorView activation, std::span<const int32_t> rows, int k,
                               int run) {
  TC_RETURN_IF_ERROR(Compute(activation, rows, run));
  device_.ops().SelectBest(LogitsOf(run), k, reader_.Best(static_cast<int64_t>(rows.size()), k));
  return OkStatus();
}

Status LogitsHead::Compute(TensorView activation, std::span<const int32_t> rows, int run) {
  GatherRows(activation, rows, executor_->Input(run));
  executor_->Start(run, program_, nullptr);
  return executor_->Advance().status();
}

// Those of the activation into x, within the device's memory.
void LogitsHead::GatherRows(TensorView activation, std::span<const int32_t> rows, TensorView x) {
  if (is_apart()) return device_.ops().Embed(activation, rows, x);
  for (size_t i = 0; i < rows.size(); ++i) {
    CopyRows(activation.Rows(rows[i], 1), x.Rows(static_cast<int64_t>(i), 1));
  }
}

}  // namespace thermocline::worker
