#include "comm/device_link.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/str.h"
#include "comm/backoff.h"
#include "comm/nccl_way.h"
#include "comm/pinned_buffer.h"

namespace thermocline::comm {
namespace {

constexpr size_t kNever = std::numeric_limits<size_t>::max();
// What an operation of NCCL between two that are connected, or a copy that waits for the one before
// it, may take of a receiver's time: far more than they do, and less than a peer's silence.
constexpr Duration kPatience = std::chrono::seconds(2);

// Before the header of each frame on the host's link, little endian as all of comm/.
enum class Way : uint32_t { kStaged = 0, kNccl = 1, kMeet = 2, kChosen = 3 };
struct Prefix {
  uint32_t magic = 0x31474354;  // "TCG1"
  Way way = Way::kStaged;
  uint64_t payload_bytes = 0;  // kChosen: nccl_from_bytes
};
static_assert(sizeof(Prefix) == 16);

// From so much on, fourfold up to the largest, the two ways are compared: below are only headers.
constexpr size_t kFirstMeasuredBytes = 4096;
constexpr int kMeasuredRounds = 5;

// Step thread only.
class GpuLink final : public DeviceLink {
 public:
  GpuLink(Link& host, const Gpu& gpu) : host_(host), gpu_(gpu) {}

  WorkerId peer() const override { return host_.peer(); }
  LinkStats stats() const override { return stats_; }
  size_t nccl_from_bytes() const override { return nccl_from_bytes_; }

  Status Prepare() {
    TC_ASSIGN_OR_RETURN(out_, PinnedOrNone());
    for (Pinned& in : in_) {
      TC_ASSIGN_OR_RETURN(in, PinnedOrNone());
    }
    TC_ASSIGN_OR_RETURN(awaited_, gpu_.MakeEvent());
    return OkStatus();
  }

  // Tells the other end where to meet, or learns it; without NCCL at either end all is staged.
  Status Meet(const NcclLibrary* nccl, const DeviceLinkOptions& options, TimePoint deadline) {
    std::string ids;
    if (options.leads && nccl != nullptr) {
      TC_ASSIGN_OR_RETURN(ids, nccl->MakeId());
      TC_ASSIGN_OR_RETURN(const std::string second, nccl->MakeId());
      ids += second;
    }
    if (options.leads) TC_RETURN_IF_ERROR(Tell(Way::kMeet, nccl != nullptr, ids, deadline));
    TC_ASSIGN_OR_RETURN(const bool other_can, Hear(Way::kMeet, deadline));
    if (!options.leads) {
      TC_RETURN_IF_ERROR(Tell(Way::kMeet, nccl != nullptr, {}, deadline));
      ids.assign(reinterpret_cast<const char*>(heard_.data()), heard_.size());
    }
    if (nccl == nullptr || !other_can) return OkStatus();
    if (ids.size() != 2 * kNcclIdBytes) {
      return DataLoss(Str("no places to meet:", Kv("peer", peer()), Kv("bytes", ids.size())));
    }
    const std::string_view both = ids;
    TC_ASSIGN_OR_RETURN(nccl_, NcclWay::Join(*nccl, gpu_,
                                             {.from_lead = both.substr(0, kNcclIdBytes),
                                              .to_lead = both.substr(kNcclIdBytes),
                                              .leads = options.leads},
                                             options.max_nccl_bytes, deadline));
    return ChooseWay(options, deadline);
  }

  Status Send(std::span<const std::byte> header, std::span<const std::byte> payload,
              GpuStream stream, TimePoint deadline) override {
    const bool by_nccl = nccl_ != nullptr && payload.size() >= nccl_from_bytes_ &&
                         payload.size() <= nccl_->max_bytes() && !payload.empty();
    return SendBy(by_nccl ? Way::kNccl : Way::kStaged, header, payload, stream, deadline);
  }

  Result<bool> TryReceive(DeviceFrame* frame, GpuStream stream) override {
    TC_ASSIGN_OR_RETURN(const bool arrived, host_.TryReceive(&host_frame_));
    if (!arrived) return false;
    TC_ASSIGN_OR_RETURN(const Prefix prefix, TakePrefix());
    if (prefix.way != Way::kStaged && prefix.way != Way::kNccl) return Unexpected(prefix);
    if (prefix.payload_bytes > frame->room.size()) {
      return DataLoss(Str("payload has no room:", Kv("peer", peer()),
                          Kv("bytes", prefix.payload_bytes), Kv("room", frame->room.size())));
    }
    frame->header.assign(host_frame_.header.begin() + sizeof prefix, host_frame_.header.end());
    frame->payload_bytes = prefix.payload_bytes;
    const std::span<std::byte> payload = frame->room.first(prefix.payload_bytes);
    TC_RETURN_IF_ERROR(prefix.way == Way::kNccl ? TakeByNccl(payload, stream)
                                                : TakeStaged(payload, stream));
    ++stats_.frames_received;
    stats_.bytes_received += host_frame_.header.size() + payload.size();
    return true;
  }

  Result<bool> Flush() override {
    TC_ASSIGN_OR_RETURN(const bool flushed, host_.Flush());
    if (nccl_ == nullptr) return flushed;
    TC_ASSIGN_OR_RETURN(const bool all_sent, nccl_->AllSent());
    return flushed && all_sent;
  }

  Status Await(GpuStream stream, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(gpu_.Record(awaited_, stream));
    Backoff backoff;
    while (true) {
      if (nccl_ != nullptr) TC_RETURN_IF_ERROR(nccl_->Check());
      TC_ASSIGN_OR_RETURN(const bool passed, gpu_.HasPassed(awaited_));
      if (passed) return OkStatus();
      if (backoff.Pause(deadline)) continue;
      const Status late = DeadlineExceeded(
          Str("payloads are not there in time:", Kv("peer", peer()), Kv("gpu", gpu_.ordinal())));
      return nccl_ != nullptr ? nccl_->Abort(late) : late;
    }
  }

 private:
  using Pinned = std::optional<PinnedBuffer>;

  Result<Pinned> PinnedOrNone() const {
    TC_ASSIGN_OR_RETURN(PinnedBuffer buffer, PinnedBuffer::Create(gpu_));
    return Pinned(std::move(buffer));
  }

  Status SendBy(Way way, std::span<const std::byte> header, std::span<const std::byte> payload,
                GpuStream stream, TimePoint deadline) {
    TC_RETURN_IF_ERROR(CheckFrameLimits({header, payload}));
    SetHeader({.way = way, .payload_bytes = payload.size()}, header);
    if (way == Way::kNccl) {
      TC_RETURN_IF_ERROR(nccl_->AwaitSlot(deadline));
      TC_RETURN_IF_ERROR(host_.Send({header_, {}}, deadline));
      TC_RETURN_IF_ERROR(nccl_->Send(payload, stream, deadline));
    } else {
      TC_RETURN_IF_ERROR(out_->Prepare(payload.size(), deadline));
      if (!payload.empty()) TC_RETURN_IF_ERROR(out_->Fetch(payload, stream, deadline));
      TC_RETURN_IF_ERROR(host_.Send({header_, out_->first(payload.size())}, deadline));
    }
    ++stats_.frames_sent;
    stats_.bytes_sent += header_.size() + payload.size();
    return OkStatus();
  }

  Status TakeByNccl(std::span<std::byte> payload, GpuStream stream) {
    if (nccl_ == nullptr || payload.empty()) return DataLoss("payload by NCCL without NCCL");
    return nccl_->Receive(payload, stream, SteadyClock().Now() + kPatience);
  }

  Status TakeStaged(std::span<std::byte> payload, GpuStream stream) {
    if (host_frame_.payload.size() != payload.size()) {
      return DataLoss(Str("payload of another size than told:", Kv("peer", peer()),
                          Kv("bytes", host_frame_.payload.size()), Kv("told", payload.size())));
    }
    if (payload.empty()) return OkStatus();
    PinnedBuffer& in = *in_[next_in_];
    next_in_ = (next_in_ + 1) % in_.size();
    TC_RETURN_IF_ERROR(in.Prepare(payload.size(), SteadyClock().Now() + kPatience));
    std::copy(host_frame_.payload.begin(), host_frame_.payload.end(),
              in.first(payload.size()).begin());
    return in.Put(payload, stream);
  }

  void SetHeader(const Prefix& prefix, std::span<const std::byte> header) {
    header_.resize(sizeof prefix + header.size());
    std::memcpy(header_.data(), &prefix, sizeof prefix);
    std::copy(header.begin(), header.end(), header_.begin() + sizeof prefix);
  }

  Result<Prefix> TakePrefix() const {
    Prefix prefix;
    if (host_frame_.header.size() >= sizeof prefix) {
      std::memcpy(&prefix, host_frame_.header.data(), sizeof prefix);
      if (prefix.magic == Prefix().magic) return prefix;
    }
    return DataLoss(Str("not a frame of a device link:", Kv("peer", peer()),
                        Kv("header_bytes", host_frame_.header.size())));
  }

  Status Unexpected(const Prefix& prefix) const {
    return DataLoss(Str("the other end is elsewhere in its work:", Kv("peer", peer()),
                        Kv("way", static_cast<uint32_t>(prefix.way))));
  }

  // News between the ends themselves: a number and some text.
  Status Tell(Way way, uint64_t number, std::string_view text, TimePoint deadline) {
    SetHeader({.way = way, .payload_bytes = number}, std::as_bytes(std::span(text)));
    return host_.Send({header_, {}}, deadline);
  }
  Result<uint64_t> Hear(Way way, TimePoint deadline) {
    TC_RETURN_IF_ERROR(host_.Receive(&host_frame_, deadline));
    TC_ASSIGN_OR_RETURN(const Prefix prefix, TakePrefix());
    if (prefix.way != way) return Unexpected(prefix);
    heard_.assign(host_frame_.header.begin() + sizeof prefix, host_frame_.header.end());
    return prefix.payload_bytes;
  }

  Status ChooseWay(const DeviceLinkOptions& options, TimePoint deadline) {
    nccl_from_bytes_ = options.nccl_from_bytes.value_or(kNever);
    if (options.nccl_from_bytes) return OkStatus();
    TC_ASSIGN_OR_RETURN(const Gpu::Stream stream, gpu_.MakeStream());
    TC_ASSIGN_OR_RETURN(const Gpu::Memory memory, gpu_.Allocate(options.max_nccl_bytes));
    const std::span<std::byte> room(static_cast<std::byte*>(memory.get()), options.max_nccl_bytes);
    size_t from = kNever;
    for (size_t n = kFirstMeasuredBytes; n <= room.size(); n *= 4) {
      double seconds[2] = {};
      for (const Way way : {Way::kStaged, Way::kNccl}) {
        TC_ASSIGN_OR_RETURN(seconds[static_cast<size_t>(way)],
                            RoundTrip(way, options.leads, room.first(n), stream.get(), deadline));
      }
      const bool is_faster = seconds[1] < seconds[0];
      from = is_faster ? std::min(from, n) : kNever;
    }
    // The smallest payload measured stands for all below.
    if (from == kFirstMeasuredBytes) from = 1;
    return Agree(options.leads, from, deadline);
  }

  // The median time of a payload there and back.
  Result<double> RoundTrip(Way way, bool leads, std::span<std::byte> payload, GpuStream stream,
                           TimePoint deadline) {
    std::array<double, kMeasuredRounds> seconds{};
    DeviceFrame frame{.room = payload, .header = {}};
    for (double& round : seconds) {
      const TimePoint begin = SteadyClock().Now();
      if (leads) TC_RETURN_IF_ERROR(SendBy(way, {}, payload, stream, deadline));
      TC_RETURN_IF_ERROR(Receive(&frame, stream, deadline));
      if (!leads) TC_RETURN_IF_ERROR(SendBy(way, {}, payload, stream, deadline));
      TC_RETURN_IF_ERROR(Await(stream, deadline));
      round = std::chrono::duration<double>(SteadyClock().Now() - begin).count();
    }
    std::nth_element(seconds.begin(), seconds.begin() + kMeasuredRounds / 2, seconds.end());
    return seconds[kMeasuredRounds / 2];
  }

  // What the lead found counts at both ends.
  Status Agree(bool leads, size_t from, TimePoint deadline) {
    nccl_from_bytes_ = from;
    if (leads) return Tell(Way::kChosen, from, {}, deadline);
    TC_ASSIGN_OR_RETURN(nccl_from_bytes_, Hear(Way::kChosen, deadline));
    return OkStatus();
  }

  Link& host_;
  const Gpu& gpu_;
  size_t nccl_from_bytes_ = kNever;
  // Reused, so that a warm step does not allocate.
  Frame host_frame_;
  std::vector<std::byte> header_, heard_;
  Pinned out_;
  std::array<Pinned, kDeviceLinkSlots> in_;
  size_t next_in_ = 0;
  Gpu::Event awaited_;
  LinkStats stats_;
  std::unique_ptr<NcclWay> nccl_;  // null: all is staged
};

}  // namespace

Status DeviceLink::Receive(DeviceFrame* frame, GpuStream stream, TimePoint deadline) {
  Backoff backoff;
  while (true) {
    TC_ASSIGN_OR_RETURN(const bool arrived, TryReceive(frame, stream));
    if (arrived) return OkStatus();
    if (!backoff.Pause(deadline)) {
      return DeadlineExceeded(Str("no frame in time:", Kv("peer", peer())));
    }
  }
}

Result<std::unique_ptr<DeviceLink>> MakeDeviceLink(Link& host, const Gpu& gpu,
                                                   const NcclLibrary* nccl,
                                                   const DeviceLinkOptions& options,
                                                   TimePoint deadline) {
  auto link = std::make_unique<GpuLink>(host, gpu);
  TC_RETURN_IF_ERROR(link->Prepare());
  TC_RETURN_IF_ERROR(link->Meet(nccl, options, deadline));
  return std::unique_ptr<DeviceLink>(std::move(link));
}

}  // namespace thermocline::comm
