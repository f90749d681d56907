#include "worker/stage_group.h"

#include <span>

#include "base/str.h"

namespace thermocline::worker {
namespace {

// For putting an operation on a stream, which does not wait for it to be done; the first may wait
// for the other members' first. Members that are alive take milliseconds, one whose driver loads
// kernels seconds.
constexpr Duration kCallTimeout = std::chrono::seconds(60);

std::span<std::byte> BytesOf(TensorView x) { return {x.data, x.bytes()}; }

}  // namespace

Status StageGroup::Broadcast(PartKey key, TensorView x, const BatchRows& rows) {
  if (news_ != nullptr) TC_RETURN_IF_ERROR(news_->Announce(key, x.n_rows, rows));
  return group_->Broadcast(BytesOf(x), stream_, clock_.Now() + kCallTimeout);
}

Status StageGroup::Sum(kernels::SumsView sums) {
  return group_->Sum({sums.data, static_cast<size_t>(sums.n_rows * sums.n_cols)}, stream_,
                     clock_.Now() + kCallTimeout);
}

Status StageGroup::Receive(int member, TensorView y) {
  return group_->Receive(member, BytesOf(y), stream_, clock_.Now() + kCallTimeout);
}

Status StageGroup::Send(TensorView y) {
  return group_->Send(BytesOf(y), stream_, clock_.Now() + kCallTimeout);
}

std::string StageGroup::peers() const {
  return Str("the group of ", group_->n_members(), " GPUs of this stage");
}

Status StageGroup::Check() {
  if (news_ != nullptr) TC_RETURN_IF_ERROR(news_->Flush());
  return group_->Check();
}

}  // namespace thermocline::worker
