#include "tests/support/link_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/str.h"
#include "comm/group.h"

namespace thermocline::testing {
namespace {

using comm::Frame;
using comm::FrameView;
using comm::GpuStream;
using comm::Group;
using comm::Link;

class LinkGroup final : public Group {
 public:
  LinkGroup(int self, int n_members, std::vector<Link*> links)
      : self_(self), n_members_(n_members), links_(std::move(links)) {}

  int n_members() const override { return n_members_; }
  int self() const override { return self_; }

  Status Broadcast(std::span<std::byte> data, GpuStream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    return broken_ = Spread(data, deadline);
  }

  Status Sum(std::span<double> data, GpuStream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    const std::span<std::byte> bytes = std::as_writable_bytes(data);
    broken_ = self_ == 0 ? Collect(data, deadline) : links_.front()->Send({{}, bytes}, deadline);
    TC_RETURN_IF_ERROR(broken_);
    return broken_ = Spread(bytes, deadline);
  }

  Status Receive(int member, std::span<std::byte> data, GpuStream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    broken_ = ReceiveFrom(*links_[static_cast<size_t>(member) - 1], data.size(), deadline);
    TC_RETURN_IF_ERROR(broken_);
    std::copy(frame_.payload.begin(), frame_.payload.end(), data.begin());
    return OkStatus();
  }

  Status Send(std::span<const std::byte> data, GpuStream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    return broken_ = links_.front()->Send({{}, data}, deadline);
  }

  Status Await(GpuStream, TimePoint) override { return broken_; }
  Status Check() override { return broken_; }
  Status Abort(Status why) override {
    if (broken_.ok()) broken_ = std::move(why);
    return broken_;
  }

 private:
  Status Spread(std::span<std::byte> data, TimePoint deadline) {
    if (self_ != 0) {
      TC_RETURN_IF_ERROR(ReceiveFrom(*links_.front(), data.size(), deadline));
      std::copy(frame_.payload.begin(), frame_.payload.end(), data.begin());
      return OkStatus();
    }
    for (Link* link : links_) TC_RETURN_IF_ERROR(link->Send({{}, data}, deadline));
    return OkStatus();
  }

  Status Collect(std::span<double> data, TimePoint deadline) {
    for (Link* link : links_) {
      TC_RETURN_IF_ERROR(ReceiveFrom(*link, data.size_bytes(), deadline));
      for (size_t i = 0; i < data.size(); ++i) {
        double value;
        std::memcpy(&value, frame_.payload.data() + i * sizeof value, sizeof value);
        data[i] += value;
      }
    }
    return OkStatus();
  }

  Status ReceiveFrom(Link& link, size_t n_bytes, TimePoint deadline) {
    TC_RETURN_IF_ERROR(link.Receive(&frame_, deadline));
    if (frame_.payload.size() == n_bytes) return OkStatus();
    return DataLoss(Str("group member sent another size:", Kv("peer", link.peer()),
                        Kv("bytes", frame_.payload.size()), Kv("expected", n_bytes)));
  }

  const int self_;
  const int n_members_;
  const std::vector<Link*> links_;
  Frame frame_;  // reused, so that a warm step does not allocate
  Status broken_;
};

}  // namespace

Result<std::unique_ptr<Group>> MakeLinkGroup(int self, int n_members, std::vector<Link*> links) {
  const size_t wanted = self == 0 ? static_cast<size_t>(n_members) - 1 : 1;
  if (n_members < 1 || self < 0 || self >= n_members || links.size() != wanted) {
    return InvalidArgument(Str("links do not make a group:", Kv("self", self),
                               Kv("members", n_members), Kv("links", links.size())));
  }
  return std::unique_ptr<Group>(std::make_unique<LinkGroup>(self, n_members, std::move(links)));
}

}  // namespace thermocline::testing
