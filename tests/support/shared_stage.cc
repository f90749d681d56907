#include "tests/support/shared_stage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>

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
  HelperEnd(TensorView x, std::vector<double>* sums, std::vector<float>* heads)
      : x_(x), sums_(sums), heads_(heads) {}
  Result<bool> TryReceiveX(worker::PartKey, TensorView x) override {
    Copy(x_, x);
    return true;
  }
  Status SendSums(worker::PartKey, kernels::SumsView sums) override {
    sums_->assign(sums.data, sums.row(sums.n_rows));
    return OkStatus();
  }
  Status SendHeads(worker::PartKey, TensorView y) override {
    heads_->assign(y.f32_row(0), y.f32_row(y.n_rows));
    return OkStatus();
  }

 private:
  TensorView x_;
  std::vector<double>* sums_;
  std::vector<float>* heads_;
};

}  // namespace

// The lead's end: helpers run as soon as x is sent.
class SharedStage::Exchange final : public worker::PartExchange {
 public:
  Exchange(std::vector<std::unique_ptr<worker::HelperStage>>* helpers,
           const std::vector<std::vector<model::NeuronRange>>& members,
           const std::vector<model::HeadRange>& heads)
      : helpers_(helpers), members_(members), heads_(heads) {}

  Status SendX(worker::PartKey key, TensorView x, const worker::BatchRows& rows) override {
    sums_.clear();
    y_.clear();
    for (size_t h = 0; h < helpers_->size(); ++h) {
      if (!TakesPart(h + 1, key)) continue;
      HelperEnd end(x, &sums_.emplace_back(), &y_.emplace_back());
      proto::Part part{.step = key.step,
                       .layer = key.layer_in_stage,
                       .n_rows = x.n_rows,
                       .of_heads = key.of_heads};
      if (key.of_heads && key.layer_in_stage == 0) Tell(rows, &part);
      TC_RETURN_IF_ERROR((*helpers_)[h]->Run(std::move(part), &end));
    }
    return OkStatus();
  }
  Result<bool> TryReceiveHeads(worker::PartKey, int peer, TensorView y) override {
    std::vector<float>& sent = y_[static_cast<size_t>(peer - 1)];
    EXPECT_EQ(sent.size() * sizeof(float), y.bytes());
    Copy(TensorView::F32(sent.data(), y.n_rows, y.n_cols), y);
    return true;
  }
  Result<bool> TryReceiveSums(worker::PartKey, int peer, kernels::SumsView sums) override {
    const std::vector<double>& sent = sums_[static_cast<size_t>(peer - 1)];
    EXPECT_EQ(sent.size() * sizeof(double), sums.bytes());
    std::copy(sent.begin(), sent.end(), sums.data);
    return true;
  }

 private:
  bool TakesPart(size_t member, worker::PartKey key) const {
    if (key.of_heads) return !heads_[member].empty();
    return !members_[member][static_cast<size_t>(key.layer_in_stage)].empty();
  }
  static void Tell(const worker::BatchRows& rows, proto::Part* part) {
    for (const kernels::SequenceRows& own : rows.sequences) {
      part->sequences.push_back(
          {own.first_position, own.n_tokens, {own.page_ids.begin(), own.page_ids.end()}});
    }
  }

  std::vector<std::unique_ptr<worker::HelperStage>>* helpers_;
  std::vector<std::vector<model::NeuronRange>> members_;
  std::vector<model::HeadRange> heads_;
  std::vector<std::vector<double>> sums_;
  std::vector<std::vector<float>> y_;
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
  lead.graph_bytes = options.graph_bytes;
  if (!options.heads.empty()) lead.ffn.heads.own = options.heads.front();
  for (size_t m = 1; m < options.members.size(); ++m) {
    worker::HelperOptions helper{lead.layers,
                                 {.modes = options.modes,
                                  .neurons = options.members[m],
                                  .is_helper = true,
                                  .rows = options.helper_rows},
                                 lead.max_step_tokens,
                                 lead.kv};
    if (!options.heads.empty() && !options.heads[m].empty()) {
      helper.ffn.heads.own = options.heads[m];
      lead.ffn.heads.by_link.push_back(options.heads[m]);
    }
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
  exchange_ = std::make_unique<Exchange>(&helpers_, options.members, options.heads);
  lead_->set_exchange(exchange_.get());
}

SharedStage::~SharedStage() = default;

void SharedStage::Run(const proto::StepBatch& step) {
  const Status status = lead_->Run(step, {});
  EXPECT_TRUE(status.ok()) << status;
}

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
