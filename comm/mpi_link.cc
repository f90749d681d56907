#include "comm/mpi_link.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <climits>
#include <deque>
#include <utility>

#include "base/str.h"
#include "comm/backoff.h"

namespace thermocline::comm {
namespace {

// The communicator is ours alone and MPI keeps sources apart, so one tag serves all links.
constexpr int kFrameTag = 1;
constexpr std::string_view kAddressScheme = "mpi:";
constexpr uint64_t kMaxMessageBytes = kFramePrefixBytes + kMaxHeaderBytes + kMaxPayloadBytes;
static_assert(kMaxMessageBytes < INT_MAX, "MPI counts in int");
// Payloads from here on are messages of their own, which the receiver has written to where they
// stay. For less, copying them once more is cheaper than a second message.
constexpr size_t kApartBytes = size_t{64} << 10;

// Step thread only. A send is handed to MPI and left there; MPI moves it on whenever the step
// thread is in any call of the port.
class MpiLink final : public Link {
 public:
  MpiLink(MPI_Comm comm, MpiParking* parking, WorkerId peer, int rank)
      : comm_(comm), parking_(parking), peer_(peer), rank_(rank) {}

  ~MpiLink() override {
    for (auto& transfer : sending_) parking_->Park(std::move(transfer));
    if (receiving_->IsUnderWay()) parking_->Park(std::move(receiving_));
  }

  WorkerId peer() const override { return peer_; }
  LinkStats stats() const override { return stats_; }

  Status Send(const FrameView& frame, TimePoint deadline) override {
    TC_RETURN_IF_ERROR(CheckFrameLimits(frame));
    TC_RETURN_IF_ERROR(AwaitRoom(deadline));
    std::unique_ptr<MpiTransfer> transfer = TakeIdle();
    if (frame.payload.size() < kApartBytes) {
      EncodeFrame(frame, &transfer->bytes);
      TC_RETURN_IF_ERROR(BeginSend(transfer->bytes, &transfer->requests[0]));
    } else {
      EncodeFrameHead(frame, &transfer->bytes);
      transfer->payload.assign(frame.payload.begin(), frame.payload.end());
      TC_RETURN_IF_ERROR(BeginSend(transfer->bytes, &transfer->requests[0]));
      TC_RETURN_IF_ERROR(BeginSend(transfer->payload, &transfer->requests[1]));
    }
    ++stats_.frames_sent;
    stats_.bytes_sent += EncodedFrameBytes(frame);
    sending_.push_back(std::move(transfer));
    return Reap();
  }

  Result<bool> Flush() override {
    TC_RETURN_IF_ERROR(Reap());
    return sending_.empty();
  }

  Status Receive(Frame* frame, TimePoint deadline) override {
    Backoff backoff;
    while (true) {
      TC_ASSIGN_OR_RETURN(const bool arrived, TryReceive(frame));
      if (arrived) return OkStatus();
      const bool moving = receiving_->IsUnderWay() || missing_bytes_ != 0 || !sending_.empty();
      if (!backoff.Pause(deadline, moving)) {
        return DeadlineExceeded(Str("no frame in time:", Kv("peer", peer_)));
      }
    }
  }

  Result<bool> TryReceive(Frame* frame) override {
    if (!receiving_->IsUnderWay()) TC_RETURN_IF_ERROR(BeginNextMessage());
    if (receiving_->IsUnderWay()) {
      TC_ASSIGN_OR_RETURN(const bool done, receiving_->Done());
      if (done) return TakeMessage(frame);
    }
    if (!sending_.empty()) TC_RETURN_IF_ERROR(Reap());
    return false;
  }

 private:
  // Waits until fewer sends than the window are under way.
  Status AwaitRoom(TimePoint deadline) {
    Backoff backoff;
    while (true) {
      TC_RETURN_IF_ERROR(Reap());
      if (sending_.size() < kLinkWindowFrames) return OkStatus();
      if (!backoff.Pause(deadline)) {
        return DeadlineExceeded(
            Str("peer takes no frames:", Kv("peer", peer_), Kv("under_way", sending_.size())));
      }
    }
  }

  // Takes back the transfers that are done, oldest first.
  Status Reap() {
    while (!sending_.empty()) {
      TC_ASSIGN_OR_RETURN(const bool done, sending_.front()->Done());
      if (!done) return OkStatus();
      idle_.push_back(std::move(sending_.front()));
      sending_.pop_front();
    }
    return OkStatus();
  }

  std::unique_ptr<MpiTransfer> TakeIdle() {
    if (idle_.empty()) return std::make_unique<MpiTransfer>();
    std::unique_ptr<MpiTransfer> transfer = std::move(idle_.back());
    idle_.pop_back();
    return transfer;
  }

  Status BeginSend(std::span<const std::byte> bytes, MPI_Request* request) {
    return MpiStatus(MPI_Isend(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, rank_,
                               kFrameTag, comm_, request),
                     "cannot send");
  }

  // If a message has arrived, has MPI write it to where it belongs: messages between two ranks come
  // in the order they were sent.
  Status BeginNextMessage() {
    int found = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status mpi_status;
    TC_RETURN_IF_ERROR(MpiStatus(
        MPI_Improbe(rank_, kFrameTag, comm_, &found, &message, &mpi_status), "cannot receive"));
    if (!found) return OkStatus();
    int n_bytes = 0;
    MPI_Get_count(&mpi_status, MPI_BYTE, &n_bytes);
    if (n_bytes < 0 || static_cast<uint64_t>(n_bytes) > kMaxMessageBytes) {
      return DataLoss(Str("message over its limit:", Kv("peer", peer_), Kv("bytes", n_bytes),
                          Kv("limit", kMaxMessageBytes)));
    }
    received_bytes_ = static_cast<size_t>(n_bytes);
    std::vector<std::byte>& bytes = missing_bytes_ == 0 ? receiving_->bytes : receiving_->payload;
    // The buffer only grows, so a warm loop neither allocates nor clears it.
    if (bytes.size() < received_bytes_) bytes.resize(received_bytes_);
    return MpiStatus(
        MPI_Imrecv(bytes.data(), n_bytes, MPI_BYTE, &message, &receiving_->requests[0]),
        "cannot receive");
  }

  // The message is here; true when it completes a frame.
  Result<bool> TakeMessage(Frame* frame) {
    if (missing_bytes_ != 0) return TakePayload(frame);
    const auto bytes = std::span<const std::byte>(receiving_->bytes).first(received_bytes_);
    TC_ASSIGN_OR_RETURN(missing_bytes_, MissingPayloadBytes(bytes));
    if (missing_bytes_ != 0) {
      head_bytes_ = received_bytes_;
      return TryReceive(frame);
    }
    TC_RETURN_IF_ERROR(DecodeFrame(bytes, frame));
    Count(bytes.size());
    return true;
  }

  Result<bool> TakePayload(Frame* frame) {
    const uint64_t expected = std::exchange(missing_bytes_, 0);
    if (received_bytes_ != expected) {
      return DataLoss(Str("a frame's payload has another size:", Kv("peer", peer_),
                          Kv("bytes", received_bytes_), Kv("expected", expected)));
    }
    const auto head = std::span<const std::byte>(receiving_->bytes).first(head_bytes_);
    const auto header = HeaderOfHead(head);
    frame->header.assign(header.begin(), header.end());
    frame->payload.swap(receiving_->payload);
    frame->payload.resize(received_bytes_);
    Count(head_bytes_ + received_bytes_);
    return true;
  }

  void Count(size_t frame_bytes) {
    ++stats_.frames_received;
    stats_.bytes_received += frame_bytes;
  }

  const MPI_Comm comm_;
  MpiParking* const parking_;
  const WorkerId peer_;
  const int rank_;
  std::deque<std::unique_ptr<MpiTransfer>> sending_;  // oldest first, at most the window
  std::vector<std::unique_ptr<MpiTransfer>> idle_;    // buffers to use again
  std::unique_ptr<MpiTransfer> receiving_ = std::make_unique<MpiTransfer>();
  size_t received_bytes_ = 0;   // of the message that receiving_ holds or waits for
  size_t head_bytes_ = 0;       // of the frame whose payload is still to come
  uint64_t missing_bytes_ = 0;  // of that payload; 0: the next message begins a frame
  LinkStats stats_;
};

// Step thread only.
class MpiDataPort final : public DataPort {
 public:
  MpiDataPort(MPI_Comm comm, MpiParking* parking) : comm_(comm), parking_(parking) {
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }

  // Lets last frames reach peers that are alive.
  ~MpiDataPort() override { parking_->Drain(SteadyClock().Now() + kLinger); }

  Transport transport() const override { return Transport::kMpi; }
  std::string address() const override { return Str(kAddressScheme, rank_); }

  Result<std::unique_ptr<Link>> Open(WorkerId peer, const std::string& peer_address) override {
    const std::string_view text = peer_address;
    int rank = -1;
    if (text.substr(0, kAddressScheme.size()) == kAddressScheme) {
      const char* end = text.data() + text.size();
      const auto parsed = std::from_chars(text.data() + kAddressScheme.size(), end, rank);
      if (parsed.ec != std::errc() || parsed.ptr != end) rank = -1;
    }
    if (rank < 0 || rank >= size_ || rank == rank_) {
      return InvalidArgument(Str("not the address of another rank: ", Printable(text),
                                 Kv("peer", peer), Kv("ranks", size_)));
    }
    return std::unique_ptr<Link>(std::make_unique<MpiLink>(comm_, parking_, peer, rank));
  }

 private:
  // Long enough for a last frame to a live peer, short enough to go unnoticed at exit.
  static constexpr Duration kLinger = std::chrono::milliseconds(200);

  const MPI_Comm comm_;
  MpiParking* const parking_;
  int rank_ = 0;
  int size_ = 0;
};

}  // namespace

Status MpiStatus(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return OkStatus();
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int n_chars = 0;
  MPI_Error_string(code, text.data(), &n_chars);
  return Unavailable(
      Str(what, ": ", std::string_view(text.data(), static_cast<size_t>(std::max(n_chars, 0)))));
}

Result<bool> MpiTransfer::Done() {
  int done = 0;
  TC_RETURN_IF_ERROR(
      MpiStatus(MPI_Testall(2, requests, &done, MPI_STATUSES_IGNORE), "transfer failed"));
  return done != 0;
}

bool MpiParking::Drain(TimePoint deadline) {
  Backoff backoff;
  while (true) {
    std::erase_if(parked_, [](const auto& transfer) {
      const Result<bool> done = transfer->Done();
      return !done.ok() || *done;
    });
    if (parked_.empty()) return true;
    if (!backoff.Pause(deadline)) return false;
  }
}

std::unique_ptr<DataPort> MakeMpiDataPort(MPI_Comm comm, MpiParking* parking) {
  return std::make_unique<MpiDataPort>(comm, parking);
}

}  // namespace thermocline::comm
