#include "worker/tracer.h"

#include <algorithm>

#include "base/str.h"
#include "model/graph.h"
#include "proto/codec.h"

namespace thermocline::worker {
namespace {

constexpr int kUnnamed = -1;
constexpr size_t kOpKinds = static_cast<size_t>(model::OpKind::kPlaceHeads) + 1;
constexpr size_t kRoles = static_cast<size_t>(model::kNumWeightRoles);

// "matmul ffn_up", "rope".
std::string NameOfOp(const LoweredOp& op) {
  std::string name = model::OpKindName(op.kind);
  if (op.weight.empty() && op.neurons.up.empty()) return name;
  constexpr std::string_view kSuffix = ".weight";
  std::string_view role = model::WeightRoleName(op.key.role);
  if (role.ends_with(kSuffix)) role.remove_suffix(kSuffix.size());
  return Str(name, " ", role);
}

}  // namespace

Tracer::Tracer(const Clock& clock) : clock_(clock), op_names_(kOpKinds * kRoles, kUnnamed) {
  spans_.reserve(kMaxPendingSpans);
}

// One that does not fit any more shares the number of the first; workers have far fewer.
uint32_t Tracer::Find(std::string_view text, size_t limit, std::vector<std::string>* texts) {
  const auto found = std::find(texts->begin(), texts->end(), text);
  if (found != texts->end()) return static_cast<uint32_t>(found - texts->begin());
  if (texts->size() == limit) return 0;
  texts->emplace_back(text);
  return static_cast<uint32_t>(texts->size()) - 1;
}

uint32_t Tracer::Name(std::string_view name) {
  const MutexLock lock(mutex_);
  return Find(name, proto::kMaxTraceNames, &names_);
}

uint32_t Tracer::Track(std::string_view track) {
  const MutexLock lock(mutex_);
  return Find(track, proto::kMaxTraceTracks, &tracks_);
}

uint32_t Tracer::NameOf(const LoweredOp& op) {
  int& known = op_names_[static_cast<size_t>(op.kind) * kRoles + static_cast<size_t>(op.key.role)];
  if (known == kUnnamed) known = static_cast<int>(Name(NameOfOp(op)));
  return static_cast<uint32_t>(known);
}

void Tracer::Add(proto::TraceSpan span, TimePoint begin, TimePoint end) {
  span.begin_ns = begin.since_start.count();
  span.duration_ns = (end - begin).count();
  const MutexLock lock(mutex_);
  if (spans_.size() == kMaxPendingSpans) {
    ++n_dropped_;
    return;
  }
  spans_.push_back(span);
}

void Tracer::CountLost(size_t n) {
  const MutexLock lock(mutex_);
  n_dropped_ += n;
}

proto::TraceSpans Tracer::Take() {
  proto::TraceSpans taken;
  const MutexLock lock(mutex_);
  taken.names = names_;
  taken.tracks = tracks_;
  taken.n_dropped = n_dropped_;
  const size_t n = std::min<size_t>(spans_.size(), proto::kMaxTraceSpans);
  const auto end = spans_.begin() + static_cast<std::ptrdiff_t>(n);
  taken.spans.assign(spans_.begin(), end);
  spans_.erase(spans_.begin(), end);
  return taken;
}

}  // namespace thermocline::worker
