#include <utility>

#include "comm/group.h"
#include "comm/pinned_buffer.h"

namespace thermocline::comm {
namespace {

class StagedGroup final : public Group {
 public:
  StagedGroup(std::unique_ptr<Group> host, PinnedBuffer buffer)
      : host_(std::move(host)), buffer_(std::move(buffer)) {}

  int n_members() const override { return host_->n_members(); }
  int self() const override { return host_->self(); }
  bool on_gpu() const override { return true; }

  Status Broadcast(std::span<std::byte> data, GpuStream stream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    return broken_ = Spread(data, stream, deadline);
  }

  Status Sum(std::span<std::byte> data, DType dtype, GpuStream stream,
             TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    TC_RETURN_IF_ERROR(CheckSummands(data, dtype));
    return broken_ = Add(data, dtype, stream, deadline);
  }

  Status Await(GpuStream stream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    return broken_ = buffer_.Await(stream, deadline);
  }
  Status Check() override { return broken_; }
  Status Abort(Status why) override {
    if (broken_.ok()) broken_ = host_->Abort(std::move(why));
    return broken_;
  }

 private:
  Status Spread(std::span<std::byte> data, GpuStream stream, TimePoint deadline) {
    TC_RETURN_IF_ERROR(buffer_.Prepare(data.size(), deadline));
    if (self() == 0) TC_RETURN_IF_ERROR(buffer_.Fetch(data, stream, deadline));
    TC_RETURN_IF_ERROR(host_->Broadcast(buffer_.first(data.size()), nullptr, deadline));
    return self() == 0 ? OkStatus() : buffer_.Put(data, stream);
  }

  Status Add(std::span<std::byte> data, DType dtype, GpuStream stream, TimePoint deadline) {
    TC_RETURN_IF_ERROR(buffer_.Prepare(data.size(), deadline));
    TC_RETURN_IF_ERROR(buffer_.Fetch(data, stream, deadline));
    TC_RETURN_IF_ERROR(host_->Sum(buffer_.first(data.size()), dtype, nullptr, deadline));
    return buffer_.Put(data, stream);
  }

  const std::unique_ptr<Group> host_;
  PinnedBuffer buffer_;
  Status broken_;
};

}  // namespace

Result<std::unique_ptr<Group>> MakeStagedGroup(const Gpu& gpu, std::unique_ptr<Group> host) {
  TC_ASSIGN_OR_RETURN(PinnedBuffer buffer, PinnedBuffer::Create(gpu));
  return std::unique_ptr<Group>(std::make_unique<StagedGroup>(std::move(host), std::move(buffer)));
}

}  // namespace thermocline::comm
