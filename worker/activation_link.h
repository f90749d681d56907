// Activations between this worker and one peer: frames in the wire type of their link, each with a
// message as its header.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/dtype.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "comm/link.h"
#include "kernels/operands.h"
#include "proto/codec.h"
#include "proto/messages.h"
#include "worker/link_probe.h"

namespace thermocline::worker {

// What an activation link needs besides the link itself; all outlives it.
struct LinkContext {
  const Clock& clock;
  const std::atomic<bool>& stopping;  // ends every wait with kAborted
  DType wire = DType::kF32;
  int64_t n_embd = 0;
  Epoch epoch;                               // of the plan that the link serves
  std::atomic<uint64_t>* n_stale = nullptr;  // counts frames of plans before; null: nobody asks
};

// Owns the link and the memory of the frames on their way. Step thread only; nothing is allocated
// once the largest frame has passed.
class ActivationLink {
 public:
  ActivationLink(const LinkContext& context, std::unique_ptr<comm::Link> link);

  // x[n_rows, n_embd], rounded to the wire type, with `header` before it. Returns before the peer
  // has it. kAborted when stopping; otherwise as comm::Link::Send, kDeadlineExceeded only from a
  // peer that has taken nothing for kSendTimeout.
  Status Send(const proto::Message& header, TensorView x);
  // The same of sums[n_rows, n_embd]: as they are where the wire type is F32, else rounded to it.
  Status SendSums(const proto::Message& header, kernels::SumsView sums);

  // The next frame, within `wait`: false when there is none yet.
  Result<bool> Receive(Duration wait);
  // The same, if it has arrived.
  Result<bool> TryReceive();
  // The header of the frame received last; nothing for a frame of a plan before or of a probe that
  // was given up, which is to be dropped. kDataLoss when it is no T.
  template <typename T>
  Result<std::optional<T>> Header() {
    auto header = IsProbeFrame(frame_.header)
                      ? Result<std::optional<T>>(std::nullopt)
                      : proto::DecodeOfEpoch<T>(frame_.header, context_.epoch);
    if (header.ok() && !*header && context_.n_stale != nullptr) ++*context_.n_stale;
    return header;
  }
  // Its x, valid until the next Receive. kDataLoss when it has not `n_rows` rows.
  Result<TensorView> Activation(int64_t n_rows) { return Activation(n_rows, context_.n_embd); }
  // The same of rows of another width.
  Result<TensorView> Activation(int64_t n_rows, int64_t n_cols);
  // Its sums, copied. kDataLoss when it has not as many.
  Status TakeSums(kernels::SumsView sums);

  // Whether the frame received last has brought its x itself.
  bool has_payload() const { return !frame_.payload.empty(); }

  // As comm::Link.
  Result<bool> Flush();
  // What another way to the same peer has found: the connection is gone.
  void NoteLoss() { is_lost_ = true; }
  // Whether any of these has said that the connection is gone.
  bool is_lost() const { return is_lost_; }
  WorkerId peer() const { return link_->peer(); }
  comm::LinkStats stats() const { return link_->stats(); }

  // The peer may compute one step for minutes: 512 tokens of a stage with 30e9 weights are 3e13
  // operations, ten minutes at 50 GFLOP/s. Whether a worker is lost is the coordinator's to say,
  // which then ends the step loop; this bound, three of such steps, is for one that does not.
  static constexpr Duration kSendTimeout = std::chrono::minutes(30);

 private:
  Status SendFrame(const proto::Message& header, std::span<const std::byte> payload);
  Status CheckPayload(uint64_t expected) const;
  // Remembers whether it says that the connection is gone.
  Status Noted(const Status& status);

  LinkContext context_;
  bool is_lost_ = false;
  std::unique_ptr<comm::Link> link_;
  comm::Frame frame_;             // received last
  std::vector<float> floats_;     // of a frame whose wire type is not F32
  std::vector<std::byte> sent_;   // the header being sent
  std::vector<std::byte> wired_;  // its x, unless it goes as F32
};

}  // namespace thermocline::worker
