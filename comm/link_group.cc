#include <cstring>
#include <utility>

#include "base/str.h"
#include "comm/group.h"

namespace thermocline::comm {
namespace {

class LinkGroup final : public Group {
 public:
  LinkGroup(int self, int n_members, std::vector<Link*> links)
      : self_(self), n_members_(n_members), links_(std::move(links)) {}

  int n_members() const override { return n_members_; }
  int self() const override { return self_; }

  Status Broadcast(std::span<std::byte> data, TimePoint deadline) override {
    if (self_ != 0) {
      TC_RETURN_IF_ERROR(ReceiveFrom(*links_.front(), data.size(), deadline));
      std::memcpy(data.data(), frame_.payload.data(), data.size());
      return OkStatus();
    }
    for (Link* link : links_) TC_RETURN_IF_ERROR(link->Send({{}, data}, deadline));
    return OkStatus();
  }

  Status SumToLead(std::span<float> data, TimePoint deadline) override {
    if (self_ != 0) return links_.front()->Send({{}, std::as_bytes(data)}, deadline);
    for (Link* link : links_) {
      TC_RETURN_IF_ERROR(ReceiveFrom(*link, data.size_bytes(), deadline));
      Add(data);
    }
    return OkStatus();
  }

 private:
  Status ReceiveFrom(Link& link, size_t n_bytes, TimePoint deadline) {
    TC_RETURN_IF_ERROR(link.Receive(&frame_, deadline));
    if (frame_.payload.size() == n_bytes) return OkStatus();
    return DataLoss(Str("group member sent another size:", Kv("peer", link.peer()),
                        Kv("bytes", frame_.payload.size()), Kv("expected", n_bytes)));
  }

  void Add(std::span<float> data) const {
    for (size_t i = 0; i < data.size(); ++i) {
      float part;
      std::memcpy(&part, frame_.payload.data() + i * sizeof part, sizeof part);
      data[i] += part;
    }
  }

  const int self_;
  const int n_members_;
  const std::vector<Link*> links_;
  Frame frame_;  // reused, so that a warm step does not allocate
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

}  // namespace thermocline::comm
