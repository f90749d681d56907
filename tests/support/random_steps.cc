#include "tests/support/random_steps.h"

#include <iterator>
#include <random>
#include <utility>

#include "tests/support/stage_chain.h"

namespace thermocline::testing {

proto::StepBatch DecodeStep(const std::map<uint64_t, int64_t>& positions) {
  proto::StepBatch batch;
  for (const auto& [seq, position] : positions) {
    const auto token = static_cast<int32_t>((seq * 31 + static_cast<uint64_t>(position) * 7) % 280);
    batch.entries.push_back(
        std::move(OneEntry(SeqId{seq}, position, {token}, false, 1).entries.front()));
  }
  return batch;
}

proto::StepBatch Prompt(uint64_t seq, int64_t position, int n_tokens) {
  std::vector<int32_t> tokens;
  for (int i = 0; i < n_tokens; ++i) {
    tokens.push_back(static_cast<int32_t>((seq * 13 + static_cast<uint64_t>(position + i)) % 280));
  }
  return OneEntry(SeqId{seq}, position, tokens, false, n_tokens);
}

std::vector<proto::StepBatch> RandomService(uint32_t seed, int n_stretches) {
  std::mt19937 random(seed);
  const auto draw = [&](int n) { return static_cast<int>(random() % static_cast<uint32_t>(n)); };
  std::map<uint64_t, int64_t> live;
  std::vector<proto::StepBatch> steps;
  std::vector<SeqId> released;
  uint64_t last_seq = 0;
  for (int i = 0; i < n_stretches; ++i) {
    while (!live.empty() && draw(3) == 0) {
      const auto gone = std::next(live.begin(), draw(static_cast<int>(live.size())));
      released.push_back(SeqId{gone->first});
      live.erase(gone);
    }
    while (live.empty() || (live.size() < 4 && draw(2) == 0)) {
      const int n_tokens = draw(3) == 0 ? 1 : 1 + draw(20);
      proto::StepBatch step = Prompt(++last_seq, 0, n_tokens);
      if (draw(2) == 0) {
        for (auto& entry : DecodeStep(live).entries) step.entries.push_back(std::move(entry));
        for (auto& [seq, position] : live) ++position;
      }
      steps.push_back(std::move(step));
      live[last_seq] = n_tokens;
    }
    for (int n = 3 + draw(5); n > 0; --n) {
      steps.push_back(DecodeStep(live));
      steps.back().released = std::exchange(released, {});
      for (auto& [seq, position] : live) ++position;
    }
  }
  for (size_t i = 0; i < steps.size(); ++i) steps[i].step = StepId{i + 1};
  return steps;
}

}  // namespace thermocline::testing
