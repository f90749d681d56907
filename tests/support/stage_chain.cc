#include "tests/support/stage_chain.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace thermocline::testing {

double Difference(const Logits& got, const Logits& wanted) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    for (size_t j = 0; j < wanted[i].size(); ++j) {
      error += (double{got[i][j]} - wanted[i][j]) * (double{got[i][j]} - wanted[i][j]);
      norm += double{wanted[i][j]} * wanted[i][j];
    }
  }
  return std::sqrt(error / norm);
}

proto::StepBatch OneEntry(SeqId seq, int64_t first_position, std::vector<int32_t> tokens,
                          bool sample, int n_prompt) {
  proto::StepEntry entry;
  entry.seq = seq;
  entry.first_position = first_position;
  entry.tokens = std::move(tokens);
  entry.sample = sample;
  if (first_position == 0) {
    model::SamplingParams greedy;
    greedy.temperature = 0;
    entry.start = proto::SequenceStart{greedy, n_prompt};
  }
  proto::StepBatch batch;
  batch.entries.push_back(std::move(entry));
  return batch;
}

StageChain::StageChain(const std::string& path, const ChainOptions& options) {
  device_ = options.make_device ? options.make_device()
            : options.reference_device
                ? kernels::MakeReferenceDevice()
                : std::move(kernels::MakeCpuDevice({options.n_threads})).value();
  auto model = worker::OpenModel(path);
  EXPECT_TRUE(model.ok()) << model.status();
  model_ = std::move(model).value();
  if (!options.sparsity_path.empty()) {
    const Status attached = worker::AttachSparsityFile(options.sparsity_path, &model_);
    EXPECT_TRUE(attached.ok()) << attached;
  }
  std::vector<int> begins = {0};
  begins.insert(begins.end(), options.cuts.begin(), options.cuts.end());
  for (size_t i = 0; i < begins.size(); ++i) {
    const bool last = i + 1 == begins.size();
    worker::StageOptions stage;
    stage.layers = {begins[i], last ? model_.config.n_layer : begins[i + 1], i == 0, last};
    stage.ffn = options.ffn;
    stage.kv.dtype = options.kv_dtype;
    stage.kv.n_pages = options.n_pages;
    stage.max_step_tokens = options.max_step_tokens;
    stage.observer = options.observer;
    stage.graph_bytes = options.graph_bytes;
    auto created = worker::Stage::Create(model_.source(), stage, *device_,
                                         last && options.records_logits ? &logits_ : nullptr,
                                         worker::IgnoreProgress);
    EXPECT_TRUE(created.ok()) << created.status();
    stages_.push_back(std::move(created).value());
  }
}

Status StageChain::Run(proto::StepBatch batch) {
  TensorView x;
  for (const auto& stage : stages_) {
    TC_RETURN_IF_ERROR(stage->Run(batch, x));
    x = stage->activation();
  }
  return OkStatus();
}

std::vector<std::vector<float>> StageChain::Logits(SeqId seq, const std::vector<int32_t>& tokens,
                                                   size_t chunk) {
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const size_t end = std::min(tokens.size(), at + chunk);
    const Status status = Run(OneEntry(seq, static_cast<int64_t>(at),
                                       {tokens.begin() + static_cast<std::ptrdiff_t>(at),
                                        tokens.begin() + static_cast<std::ptrdiff_t>(end)},
                                       false, static_cast<int>(tokens.size())));
    EXPECT_TRUE(status.ok()) << status;
  }
  std::vector<std::vector<float>> rows;
  for (size_t i = 0; i < tokens.size(); ++i) {
    rows.push_back(logits_.rows[{seq, static_cast<int64_t>(i)}]);
  }
  return rows;
}

std::vector<int32_t> StageChain::Generate(SeqId seq, const std::vector<int32_t>& prompt, int n) {
  const proto::StepBatch greedy = OneEntry(seq, 0, prompt, true, static_cast<int>(prompt.size()));
  return Generate(seq, prompt, n, *greedy.entries.front().start);
}

std::vector<int32_t> StageChain::Generate(SeqId seq, const std::vector<int32_t>& prompt, int n,
                                          const proto::SequenceStart& start) {
  std::vector<int32_t> generated;
  std::vector<int32_t> input = prompt;
  int64_t position = 0;
  while (static_cast<int>(generated.size()) < n) {
    const auto n_input = static_cast<int64_t>(input.size());
    proto::StepBatch step = OneEntry(seq, position, input, true, static_cast<int>(prompt.size()));
    if (position == 0) step.entries.front().start = start;
    const Status status = Run(std::move(step));
    EXPECT_TRUE(status.ok()) << status;
    if (!status.ok()) break;
    position += n_input;
    generated.push_back(last().results().front().sampled->token);
    input = {generated.back()};
  }
  return generated;
}

}  // namespace thermocline::testing
