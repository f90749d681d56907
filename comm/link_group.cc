#include <algorithm>
#include <cstring>
#include <utility>

#include "base/half.h"
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
  bool on_gpu() const override { return false; }

  Status Broadcast(std::span<std::byte> data, GpuStream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    return broken_ = Spread(data, deadline);
  }

  Status Sum(std::span<std::byte> data, DType dtype, GpuStream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(broken_);
    TC_RETURN_IF_ERROR(CheckSummands(data, dtype));
    broken_ =
        self_ == 0 ? Collect(data, dtype, deadline) : links_.front()->Send({{}, data}, deadline);
    TC_RETURN_IF_ERROR(broken_);
    return broken_ = Spread(data, deadline);
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

  Status Collect(std::span<std::byte> data, DType dtype, TimePoint deadline) {
    sums_.assign(data.size() / Traits(dtype).block_bytes, 0.0f);
    Load(data, dtype, [](float& sum, float value) { sum = value; });
    for (Link* link : links_) {
      TC_RETURN_IF_ERROR(ReceiveFrom(*link, data.size(), deadline));
      Load(frame_.payload, dtype, [](float& sum, float value) { sum += value; });
    }
    Store(dtype, data);
    return OkStatus();
  }

  Status ReceiveFrom(Link& link, size_t n_bytes, TimePoint deadline) {
    TC_RETURN_IF_ERROR(link.Receive(&frame_, deadline));
    if (frame_.payload.size() == n_bytes) return OkStatus();
    return DataLoss(Str("group member sent another size:", Kv("peer", link.peer()),
                        Kv("bytes", frame_.payload.size()), Kv("expected", n_bytes)));
  }

  template <typename Put>
  void Load(std::span<const std::byte> data, DType dtype, Put put) {
    for (size_t i = 0; i < sums_.size(); ++i) {
      if (dtype == DType::kF32) {
        float value;
        std::memcpy(&value, data.data() + i * sizeof value, sizeof value);
        put(sums_[i], value);
      } else {
        uint16_t half;
        std::memcpy(&half, data.data() + i * sizeof half, sizeof half);
        put(sums_[i], F16ToF32(half));
      }
    }
  }

  void Store(DType dtype, std::span<std::byte> data) const {
    for (size_t i = 0; i < sums_.size(); ++i) {
      if (dtype == DType::kF32) {
        std::memcpy(data.data() + i * sizeof(float), &sums_[i], sizeof(float));
      } else {
        const uint16_t half = F32ToF16(sums_[i]);
        std::memcpy(data.data() + i * sizeof half, &half, sizeof half);
      }
    }
  }

  const int self_;
  const int n_members_;
  const std::vector<Link*> links_;
  // Reused, so that a warm step does not allocate.
  Frame frame_;
  std::vector<float> sums_;
  Status broken_;
};

}  // namespace

Status CheckSummands(std::span<const std::byte> data, DType dtype) {
  if (dtype != DType::kF32 && dtype != DType::kF16) {
    return InvalidArgument(Str("groups sum F32 and F16 only:", Kv("dtype", DTypeName(dtype))));
  }
  if (data.size() % Traits(dtype).block_bytes == 0) return OkStatus();
  return InvalidArgument(Str("no whole number of values to sum:", Kv("bytes", data.size()),
                             Kv("dtype", DTypeName(dtype))));
}

Result<std::unique_ptr<Group>> MakeLinkGroup(int self, int n_members, std::vector<Link*> links) {
  const size_t wanted = self == 0 ? static_cast<size_t>(n_members) - 1 : 1;
  if (n_members < 1 || self < 0 || self >= n_members || links.size() != wanted) {
    return InvalidArgument(Str("links do not make a group:", Kv("self", self),
                               Kv("members", n_members), Kv("links", links.size())));
  }
  return std::unique_ptr<Group>(std::make_unique<LinkGroup>(self, n_members, std::move(links)));
}

}  // namespace thermocline::comm
