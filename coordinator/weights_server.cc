#include "coordinator/weights_server.h"

#include <pthread.h>

#include <span>

#include "base/hash.h"
#include "base/log.h"
#include "base/str.h"
#include "comm/endpoints.h"
#include "comm/join_ticket.h"
#include "proto/bulk.h"

namespace thermocline::coordinator {
namespace {

// Between two looks at the stop flag; Wake ends the wait early.
constexpr Duration kPollInterval = std::chrono::milliseconds(200);

}  // namespace

WeightsServer::WeightsServer(std::unique_ptr<comm::Mailbox> mailbox,
                             const model::RangeReader& reader, const Clock& clock)
    : mailbox_(std::move(mailbox)), reader_(reader), clock_(clock), thread_([this] { Serve(); }) {}

WeightsServer::~WeightsServer() {
  stopping_ = true;
  mailbox_->Wake();
  thread_.join();
}

std::string WeightsServer::endpoints() const { return comm::JoinEndpoints(mailbox_->endpoints()); }

void WeightsServer::Serve() {
  pthread_setname_np(pthread_self(), "tc-weights");
  while (!stopping_) {
    const auto received = mailbox_->Receive(clock_.Now() + kPollInterval);
    if (!received.ok()) {
      LogError("coordinator", Str("the bulk channel ended: ", received.status()));
      return;
    }
    if (*received) Answer(**received);
  }
}

void WeightsServer::Answer(const comm::Received& request) {
  const auto decoded = proto::DecodeBulkRequest(request.frame.header);
  if (!decoded.ok()) return Refuse(request.from, 0, decoded.status());
  chunk_.resize(decoded->length_bytes);
  const Status read = reader_.Read(decoded->offset_bytes, chunk_);
  if (!read.ok()) return Refuse(request.from, decoded->offset_bytes, read);
  const auto header = proto::EncodeBulkReply(
      {decoded->offset_bytes, decoded->length_bytes, Checksum64(chunk_), decoded->checksum_only});
  const auto payload =
      std::span<const std::byte>(chunk_).first(decoded->checksum_only ? 0 : chunk_.size());
  const Status sent = mailbox_->Send(request.from, {header, payload});
  if (sent.ok()) {
    bytes_served_ += payload.size();
  } else {
    LogWarn("coordinator", Str("weights not sent: ", sent));
  }
}

void WeightsServer::Refuse(comm::PeerId peer, uint64_t offset_bytes, const Status& status) {
  LogWarn("coordinator", Str("range refused: ", status));
  const std::string& reason = status.message();
  const auto header = proto::EncodeBulkReply({offset_bytes, 0, 0});
  (void)mailbox_->Send(peer, {header, std::as_bytes(std::span(reason))});
}

}  // namespace thermocline::coordinator
