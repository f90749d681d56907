#include "worker/stage_group.h"

#include <span>

namespace thermocline::worker {
namespace {

// For putting an operation on a stream, which does not wait for it to be done; the first may wait
// for the other members' first. Members that are alive take milliseconds, one whose driver loads
// kernels seconds.
constexpr Duration kCallTimeout = std::chrono::seconds(60);

std::span<std::byte> BytesOf(TensorView x) { return {x.data, x.bytes()}; }

}  // namespace

Status StageGroup::Broadcast(PartKey key, TensorView x) {
  if (news_ != nullptr) TC_RETURN_IF_ERROR(news_->Announce(key, x.n_rows));
  return group_->Broadcast(BytesOf(x), stream_, clock_.Now() + kCallTimeout);
}

Status StageGroup::Sum(TensorView x) {
  return group_->Sum(BytesOf(x), x.dtype, stream_, clock_.Now() + kCallTimeout);
}

Status StageGroup::Check() {
  if (news_ != nullptr) TC_RETURN_IF_ERROR(news_->Flush());
  return group_->Check();
}

}  // namespace thermocline::worker
