#include "tools/bench_model/op_times.h"

#include <algorithm>
#include <string_view>

#include "base/str.h"

namespace thermocline::tools {
namespace {

std::string NameOf(const worker::LoweredOp& op) {
  std::string name = model::OpKindName(op.kind);
  const bool has_weight = !op.weight.empty() || !op.neurons.up.empty();
  if (!has_weight) return name;
  constexpr std::string_view kSuffix = ".weight";
  std::string_view role = model::WeightRoleName(op.key.role);
  if (role.ends_with(kSuffix)) role.remove_suffix(kSuffix.size());
  return name.append(" ").append(role);
}

uint64_t BytesOf(const kernels::Traffic& traffic) {
  return traffic.weight_bytes + traffic.kv_bytes;
}

}  // namespace

void OpTimes::OnRun() {
  last_ = clock_.Now();
  last_bytes_ = BytesOf(*traffic_);
}

void OpTimes::OnOp(const worker::LoweredOp& op, TensorView /*input*/, TensorView /*output*/) {
  const TimePoint now = clock_.Now();
  const uint64_t n_bytes = BytesOf(*traffic_);
  OpTime& time = Of(op);
  ++time.n_calls;
  time.seconds += Seconds(now - last_);
  time.n_bytes += n_bytes - last_bytes_;
  last_bytes_ = n_bytes;
  last_ = clock_.Now();
}

OpTime& OpTimes::Of(const worker::LoweredOp& op) {
  const auto same = [&](const Entry& entry) {
    return entry.kind == op.kind && entry.key.role == op.key.role;
  };
  const auto found = std::find_if(entries_.begin(), entries_.end(), same);
  if (found != entries_.end()) return found->time;
  entries_.push_back(
      {op.kind, op.key, {.name = NameOf(op), .is_predictor = worker::IsOfPredictor(op)}});
  return entries_.back().time;
}

std::vector<OpTime> OpTimes::Take() {
  std::vector<OpTime> times;
  for (Entry& entry : entries_) times.push_back(std::move(entry.time));
  entries_.clear();
  return times;
}

void AddOpTimes(const std::vector<OpTime>& more, std::vector<OpTime>* sums) {
  for (const OpTime& time : more) {
    const auto same = [&](const OpTime& sum) { return sum.name == time.name; };
    const auto found = std::find_if(sums->begin(), sums->end(), same);
    if (found == sums->end()) {
      sums->push_back(time);
      continue;
    }
    found->n_calls += time.n_calls;
    found->seconds += time.seconds;
    found->n_bytes += time.n_bytes;
  }
}

}  // namespace thermocline::tools
