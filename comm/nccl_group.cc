#include <utility>

#include "base/str.h"
#include "comm/group.h"

namespace thermocline::comm {
namespace {

class NcclGroup final : public Group {
 public:
  NcclGroup(int self, int n_members, std::unique_ptr<NcclComm> comm, Gpu::Event event)
      : self_(self), n_members_(n_members), comm_(std::move(comm)), event_(std::move(event)) {}

  int n_members() const override { return n_members_; }
  int self() const override { return self_; }

  Status Broadcast(std::span<std::byte> data, GpuStream stream, TimePoint deadline) override {
    return comm_->Broadcast(data.data(), data.size(), kLead, stream, deadline);
  }

  Status Sum(std::span<double> data, GpuStream stream, TimePoint deadline) override {
    return comm_->Sum(data.data(), data.size(), kNcclFloat64, stream, deadline);
  }

  Status Receive(int member, std::span<std::byte> data, GpuStream stream,
                 TimePoint deadline) override {
    return comm_->Receive(data.data(), data.size(), member, stream, deadline);
  }

  Status Send(std::span<const std::byte> data, GpuStream stream, TimePoint deadline) override {
    return comm_->Send(data.data(), data.size(), kLead, stream, deadline);
  }

  Status Await(GpuStream stream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(comm_->Check());
    TC_RETURN_IF_ERROR(comm_->gpu().Record(event_, stream));
    return comm_->Await(event_, deadline);
  }
  Status Check() override { return comm_->Check(); }
  Status Abort(Status why) override { return comm_->Abort(std::move(why)); }

 private:
  static constexpr int kLead = 0;
  const int self_;
  const int n_members_;
  const std::unique_ptr<NcclComm> comm_;
  const Gpu::Event event_;
};

}  // namespace

Result<std::unique_ptr<Group>> MakeNcclGroup(const NcclLibrary& nccl, const Gpu& gpu,
                                             const NcclPlace& place, TimePoint deadline) {
  TC_ASSIGN_OR_RETURN(Gpu::Event event, gpu.MakeEvent());
  TC_ASSIGN_OR_RETURN(std::unique_ptr<NcclComm> comm, NcclComm::Join(nccl, gpu, place, deadline));
  return std::unique_ptr<Group>(
      std::make_unique<NcclGroup>(place.rank, place.n_ranks, std::move(comm), std::move(event)));
}

}  // namespace thermocline::comm
