#include "tests/support/shared_stage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

namespace thermocline::testing {
namespace {

void Copy(TensorView from, TensorView to) {
  EXPECT_EQ(from.n_rows, to.n_rows);
  EXPECT_EQ(from.n_cols, to.n_cols);
  for (int64_t i = 0; i < from.n_rows; ++i) {
    std::memcpy(to.row(i), from.row(i), static_cast<size_t>(from.n_cols) * sizeof(float));
  }
}

// One helper's end: gives it x, keeps its sums.
class HelperEnd final : public worker::PartExchange {
 public:
  HelperEnd(TensorView x, std::vector<double>* sums) : x_(x), sums_(sums) {}
  Result<bool> TryReceiveX(worker::PartKey, TensorView x) override {
    Copy(x_, x);
    return true;
  }
  Status SendSums(worker::PartKey, kernels::SumsView sums) override {
    sums_->assign(sums.data, sums.row(sums.n_rows));
    return OkStatus();
  }

 private:
  TensorView x_;
  std::vector<double>* sums_;
};

}  // namespace

// The lead's end: helpers run as soon as x is sent.
class SharedStage::Exchange final : public worker::PartExchange {
 public:
  Exchange(std::vector<std::unique_ptr<worker::HelperStage>>* helpers,
           const std::vector<std::vector<model::NeuronRange>>& members)
      : helpers_(helpers), members_(members) {}

  Status SendX(worker::PartKey key, TensorView x) override {
    sums_.clear();
    for (size_t h = 0; h < helpers_->size(); ++h) {
      if (members_[h + 1][static_cast<size_t>(key.layer_in_stage)].empty()) continue;
      HelperEnd end(x, &sums_.emplace_back());
      const proto::Part part{.step = key.step, .layer = key.layer_in_stage, .n_rows = x.n_rows};
      TC_RETURN_IF_ERROR((*helpers_)[h]->Run(part, &end));
    }
    return OkStatus();
  }
  Result<bool> TryReceiveSums(worker::PartKey, int peer, kernels::SumsView sums) override {
    const std::vector<double>& sent = sums_[static_cast<size_t>(peer - 1)];
    EXPECT_EQ(sent.size() * sizeof(double), sums.bytes());
    std::copy(sent.begin(), sent.end(), sums.data);
    return true;
  }

 private:
  std::vector<std::unique_ptr<worker::HelperStage>>* helpers_;
  std::vector<std::vector<model::NeuronRange>> members_;
  std::vector<std::vector<double>> sums_;
};

SharedStage::SharedStage(const std::string& path, const SharedStageOptions& options) {
  device_ = std::move(kernels::MakeCpuDevice({options.n_threads})).value();
  if (options.make_lead_device) lead_device_ = options.make_lead_device();
  if (options.make_helper_device) helper_device_ = options.make_helper_device();
  kernels::Device& lead_device = lead_device_ ? *lead_device_ : *device_;
  kernels::Device& helper_device = helper_device_ ? *helper_device_ : *device_;
  auto model = worker::OpenModel(path);
  EXPECT_TRUE(model.ok()) << model.status();
  model_ = std::move(model).value();
  if (!options.sparsity_path.empty()) {
    EXPECT_TRUE(worker::AttachSparsityFile(options.sparsity_path, &model_).ok());
  }
  worker::StageOptions lead;
  lead.layers = {0, model_.config.n_layer, true, true};
  lead.ffn = {
      .modes = options.modes, .neurons = options.members.front(), .rows = options.lead_rows};
  lead.ffn.n_helpers.assign(lead.ffn.neurons.size(), 0);
  lead.kv.n_pages = 64;
  lead.max_step_tokens = 64;
  for (size_t m = 1; m < options.members.size(); ++m) {
    const worker::HelperOptions helper{lead.layers,
                                       {.modes = options.modes,
                                        .neurons = options.members[m],
                                        .is_helper = true,
                                        .rows = options.helper_rows},
                                       lead.max_step_tokens};
    auto created =
        worker::HelperStage::Create(model_.source(), helper, helper_device, worker::IgnoreProgress);
    EXPECT_TRUE(created.ok()) << created.status();
    helpers_.push_back(std::move(created).value());
    for (size_t layer = 0; layer < lead.ffn.n_helpers.size(); ++layer) {
      lead.ffn.n_helpers[layer] += options.members[m][layer].empty() ? 0 : 1;
    }
  }
  auto created =
      worker::Stage::Create(model_.source(), lead, lead_device, &logits_, worker::IgnoreProgress);
  EXPECT_TRUE(created.ok()) << created.status();
  lead_ = std::move(created).value();
  exchange_ = std::make_unique<Exchange>(&helpers_, options.members);
  lead_->set_exchange(exchange_.get());
}

SharedStage::~SharedStage() = default;

std::vector<std::vector<float>> SharedStage::Logits(SeqId seq, const std::vector<int32_t>& tokens,
                                                    size_t chunk) {
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const size_t end = std::min(tokens.size(), at + chunk);
    const Status status = lead_->Run(OneEntry(seq, static_cast<int64_t>(at),
                                              {tokens.begin() + static_cast<std::ptrdiff_t>(at),
                                               tokens.begin() + static_cast<std::ptrdiff_t>(end)},
                                              false, static_cast<int>(tokens.size())),
                                     {});
    EXPECT_TRUE(status.ok()) << status;
  }
  std::vector<std::vector<float>> rows;
  for (size_t i = 0; i < tokens.size(); ++i) {
    rows.push_back(logits_.rows[{seq, static_cast<int64_t>(i)}]);
  }
  return rows;
}

}  // namespace thermocline::testing
