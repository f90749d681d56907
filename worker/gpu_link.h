// Activations between two stages that are both on GPUs: from card to card by NCCL where that is
// faster than by way of the hosts, along the link of the hosts, whose frames carry the headers. A
// frame of rows that has no payload says that they come by NCCL.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/status.h"
#include "base/tensor_view.h"
#include "comm/nccl_pipe.h"
#include "worker/activation_link.h"
#include "worker/gpu_ways.h"
#include "worker/peer_device.h"
#include "worker/stage.h"

namespace thermocline::worker {

// What both ends need besides the host's link; all outlives them.
struct GpuLinkContext {
  const Clock& clock;
  const std::atomic<bool>& stopping;
  PeerDevice& device;
  const GpuWays& ways;
  std::string_view nccl_id;  // where they meet
  Epoch epoch;
  int64_t n_embd = 0;
  int max_rows = 1;  // of a batch
};

// What the ends have measured, one way, of the largest batch that goes by NCCL.
struct GpuLinkTimes {
  int64_t n_rows = 0;
  double host_s = 0;
  double nccl_s = 0;
};

// What is common to both ends: how they wait for each other. Step thread only.
class GpuLinkEnd : public PeerWork {
 public:
  std::string peers() const override;

 protected:
  // `host` joins the same two.
  GpuLinkEnd(const GpuLinkContext& context, ActivationLink& host)
      : context_(context), host_(host) {}

  // The next frame of the trial, of this epoch.
  Result<proto::Part> NextPart();
  Status SendPart(int64_t n_rows, TensorView x);
  // Of the error of a pipe: whether it says that the peer is gone. Any other is of this worker's
  // own GPU or system.
  Status Noted(const Status& status);
  Status NotMet(const Status& why);
  // Memory for the trial: on the device, and of the host.
  Status MakeTrialRows();
  TensorView DeviceRows(int64_t n_rows) const;
  TensorView HostRows(int64_t n_rows) const;
  int64_t most_rows() const;

  const GpuLinkContext context_;
  ActivationLink& host_;
  Buffer device_rows_, host_rows_;
};

// The end of the stage before.
class GpuSender final : public GpuLinkEnd {
 public:
  // Waits until the other end has come; errors of comm::NcclSender::Join.
  static Result<std::unique_ptr<GpuSender>> Join(const GpuLinkContext& context,
                                                 ActivationLink& host);
  // Tries both ways while the other end answers (GpuReceiver::Answer), and chooses.
  Status Measure();
  // Which batches go by NCCL; others by way of the host.
  RowBounds rows() const { return rows_; }
  // For the log: "by NCCL from 4 rows on (512 rows: 80 us, by way of the host 460 us)".
  std::string Text() const;

  // x[n_rows, n_embd] in the device's memory, which later work there may write to again.
  Status Send(const proto::Message& header, TensorView x);

  Status Check() override { return Noted(pipe_->Check()); }
  Status Abort(Status why) override { return pipe_->Abort(std::move(why)); }

 private:
  using GpuLinkEnd::GpuLinkEnd;
  // Of one batch there and its answer back.
  Result<double> Time(int64_t n_rows, const std::function<Status()>& send);
  Status SendByHost(int64_t n_rows);

  std::unique_ptr<comm::NcclSender> pipe_;
  RowBounds rows_;
  GpuLinkTimes times_;
};

// The end of the stage behind.
class GpuReceiver final : public GpuLinkEnd {
 public:
  static Result<std::unique_ptr<GpuReceiver>> Join(const GpuLinkContext& context,
                                                   ActivationLink& host);
  Status Answer();
  // The rows that the frame received last has told of; they are there for later work of the device.
  Status Receive(TensorView x);

  Status Check() override { return Noted(pipe_->Check()); }
  Status Abort(Status why) override { return pipe_->Abort(std::move(why)); }

 private:
  using GpuLinkEnd::GpuLinkEnd;
  std::unique_ptr<comm::NcclReceiver> pipe_;
};

}  // namespace thermocline::worker
