#include "worker/link_prober.h"

#include <pthread.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/cpu_list.h"
#include "base/log.h"
#include "base/str.h"

namespace thermocline::worker {
namespace {

// Between two looks at the stop flag.
constexpr Duration kPollInterval = std::chrono::milliseconds(20);
// The first answer may take this long beyond the budget: the other end starts when it gets to it.
constexpr Duration kStartGrace = std::chrono::milliseconds(700);

// The first frames open connections and grow buffers.
constexpr int kWarmUps = 3;
// On a fast link these take some milliseconds; the median of more is no better.
constexpr int kMinSmall = 3, kMaxSmall = 100;
constexpr int kMinLarge = 1, kMaxLarge = 12;
// Of the budget, the part that small frames may take.
constexpr double kSmallShare = 0.4;
// Long against the latency of any link between hosts, and what a chunk of a prompt weighs: 32 rows
// of 4096 floats.
constexpr size_t kLargeBytes = size_t{512} << 10;
// No memory is faster; keeps a slope that was lost in noise finite.
constexpr double kMaxBytesPerS = 1e12;

// The header of a probe's frames: what the receiver does with it.
constexpr std::byte kEcho{'e'}, kLast{'l'};

// Of the samples from `first` on, of which there is at least one.
double Median(std::vector<double>& samples, size_t first) {
  const auto begin = samples.begin() + static_cast<std::ptrdiff_t>(first);
  const auto middle = begin + (samples.end() - begin) / 2;
  std::nth_element(begin, middle, samples.end());
  return *middle;
}

// One end of a probe, with the times its sends took.
class ProbeEnd {
 public:
  ProbeEnd(comm::Link& link, const Clock& clock, const ProbeDeadlines& deadlines, DeviceHop* hop)
      : link_(link), clock_(clock), deadlines_(deadlines), hop_(hop) {}

  Status Send(std::byte kind, std::span<const std::byte> payload) {
    if (hop_ != nullptr) TC_RETURN_IF_ERROR(hop_->Out(payload.size()));
    const TimePoint began = clock_.Now();
    TC_RETURN_IF_ERROR(link_.Send({{&kind, 1}, payload}, deadlines_.give_up_at));
    if (payload.empty()) send_s_.push_back(Seconds(clock_.Now() - began));
    return OkStatus();
  }

  // The next frame; its kind.
  Result<std::byte> Receive() {
    while (true) {
      const TimePoint now = clock_.Now();
      if (deadlines_.stop) return Aborted("the probe was stopped");
      const Status received =
          link_.Receive(&frame_, std::min(now + kPollInterval, deadlines_.give_up_at));
      if (received.ok()) break;
      if (received.code() != StatusCode::kDeadlineExceeded) return received;
      if (now >= deadlines_.give_up_at) return DeadlineExceeded("no answer in time");
    }
    if (hop_ != nullptr) TC_RETURN_IF_ERROR(hop_->In(frame_.payload.size()));
    if (frame_.header.size() == 1 && (frame_.header[0] == kEcho || frame_.header[0] == kLast)) {
      return frame_.header[0];
    }
    return DataLoss("a frame that is no probe's; is --shape the same at both ends?");
  }
  const std::vector<std::byte>& payload() const { return frame_.payload; }

  // There and back.
  Result<double> RoundTrip(std::byte kind, std::span<const std::byte> payload) {
    const TimePoint began = clock_.Now();
    TC_RETURN_IF_ERROR(Send(kind, payload));
    TC_ASSIGN_OR_RETURN(const std::byte answer, Receive());
    if (answer != kind || frame_.payload.size() != payload.size()) {
      return DataLoss("a probe came back changed");
    }
    return Seconds(clock_.Now() - began);
  }

  // The median of as many round trips as there is time for, within the bounds.
  Result<double> MedianRoundTrip(std::span<const std::byte> payload, int least, int most,
                                 TimePoint until) {
    std::vector<double> seconds;
    while (static_cast<int>(seconds.size()) < most) {
      if (static_cast<int>(seconds.size()) >= least && clock_.Now() >= until) break;
      TC_ASSIGN_OR_RETURN(const double sample, RoundTrip(kEcho, payload));
      seconds.push_back(sample);
    }
    return Median(seconds, 0);
  }

  // Until the last frame has left; without it the other end would wait for it.
  Status Flush() {
    while (true) {
      TC_ASSIGN_OR_RETURN(const bool done, link_.Flush());
      if (done) return OkStatus();
      if (clock_.Now() >= deadlines_.give_up_at) return DeadlineExceeded("a frame did not leave");
    }
  }

  // Without those of the warm-up.
  double SendSeconds() {
    if (send_s_.empty()) return 0;
    return Median(send_s_, std::min<size_t>(kWarmUps, send_s_.size() / 2));
  }

 private:
  comm::Link& link_;
  const Clock& clock_;
  const ProbeDeadlines& deadlines_;
  DeviceHop* hop_;
  comm::Frame frame_;
  std::vector<double> send_s_;
};

// The step thread will run there too.
void RunOnFirstOf(std::span<const int> cpus) {
  const Status pinned = RunOn(cpus);
  if (!pinned.ok()) LogDebug("worker", pinned.message());
}

}  // namespace

Result<DeviceHop> DeviceHop::Create(kernels::Device& device, uint64_t n_bytes) {
  DeviceHop hop(device);
  TC_ASSIGN_OR_RETURN(hop.on_device_, device.Allocate(n_bytes));
  TC_ASSIGN_OR_RETURN(hop.on_host_, device.AllocateHost(n_bytes));
  return hop;
}

uint64_t DeviceHop::Copied(uint64_t n_bytes) const {
  return std::clamp<uint64_t>(n_bytes, sizeof(float), on_host_.size());
}

Status DeviceHop::Out(uint64_t n_bytes) {
  device_->CopyToHost(on_device_.data(), on_host_.data(), Copied(n_bytes));
  return device_->Synchronize();
}

Status DeviceHop::In(uint64_t n_bytes) {
  device_->CopyToDevice(on_host_.data(), on_device_.data(), Copied(n_bytes));
  return device_->Synchronize();
}

Result<LinkFigures> LeadProbe(comm::Link& link, const Clock& clock, const ProbeDeadlines& deadlines,
                              DeviceHop* hop) {
  ProbeEnd end(link, clock, deadlines, hop);
  for (int i = 0; i < kWarmUps; ++i) TC_RETURN_IF_ERROR(end.RoundTrip(kEcho, {}).status());
  const TimePoint began = clock.Now();
  const auto small_part = std::chrono::duration_cast<Duration>(
      kSmallShare * std::max(deadlines.measure_until - began, Duration(0)));
  LinkFigures figures;
  TC_ASSIGN_OR_RETURN(figures.round_trip_s,
                      end.MedianRoundTrip({}, kMinSmall, kMaxSmall, began + small_part));
  const std::vector<std::byte> large(kLargeBytes);
  TC_ASSIGN_OR_RETURN(double large_s, end.RoundTrip(kEcho, large));  // warms up, or is the one
  if (clock.Now() < deadlines.measure_until) {
    TC_ASSIGN_OR_RETURN(large_s,
                        end.MedianRoundTrip(large, kMinLarge, kMaxLarge, deadlines.measure_until));
  }
  // What the bytes add to one way.
  const double more_s = (large_s - figures.round_trip_s) / 2;
  const double fastest_s = static_cast<double>(kLargeBytes) / kMaxBytesPerS;
  figures.bytes_per_s = static_cast<double>(kLargeBytes) / std::max(more_s, fastest_s);
  figures.message_s = end.SendSeconds();
  TC_RETURN_IF_ERROR(end.RoundTrip(kLast, {}).status());
  TC_RETURN_IF_ERROR(end.Flush());
  return figures;
}

Result<LinkFigures> EchoProbe(comm::Link& link, const Clock& clock, const ProbeDeadlines& deadlines,
                              DeviceHop* hop) {
  ProbeEnd end(link, clock, deadlines, hop);
  while (true) {
    TC_ASSIGN_OR_RETURN(const std::byte kind, end.Receive());
    TC_RETURN_IF_ERROR(end.Send(kind, end.payload()));
    if (kind != kLast) continue;
    TC_RETURN_IF_ERROR(end.Flush());
    return LinkFigures{.message_s = end.SendSeconds()};
  }
}

LinkProber::LinkProber(const ProbeContext& context, proto::ProbeLink request,
                       std::function<void()> on_done)
    : thread_([this, context, request = std::move(request), on_done = std::move(on_done)] {
        pthread_setname_np(pthread_self(), "tc-probe");
        RunOnFirstOf(context.cpus);
        const auto figures = Probe(context, request);
        proto::LinkReport report{.round = request.round, .peer = request.peer};
        if (figures.ok()) {
          report.round_trip_s = figures->round_trip_s;
          report.bytes_per_s = figures->bytes_per_s;
          report.message_s = figures->message_s;
        } else {
          report.error = figures.status().message();
        }
        {
          const MutexLock lock(mutex_);
          report_ = std::move(report);
        }
        on_done();
      }) {}

LinkProber::~LinkProber() {
  stop_ = true;
  thread_.join();
}

Result<LinkFigures> LinkProber::Probe(const ProbeContext& context,
                                      const proto::ProbeLink& request) const {
  const TimePoint began = context.clock.Now();
  const TimePoint until = began + std::chrono::microseconds(request.budget_us);
  const ProbeDeadlines deadlines{until, until + kStartGrace, stop_};
  context.port.SetSelf(context.self);
  TC_ASSIGN_OR_RETURN(const auto link, context.port.Open(request.peer, request.address));
  std::optional<DeviceHop> hop;
  if (context.device != nullptr && !context.device->reads_host_memory()) {
    TC_ASSIGN_OR_RETURN(hop, DeviceHop::Create(*context.device, kLargeBytes));
  }
  DeviceHop* const own = hop ? &*hop : nullptr;
  return request.leads ? LeadProbe(*link, context.clock, deadlines, own)
                       : EchoProbe(*link, context.clock, deadlines, own);
}

std::optional<proto::LinkReport> LinkProber::Take() {
  const MutexLock lock(mutex_);
  return std::exchange(report_, std::nullopt);
}

}  // namespace thermocline::worker
