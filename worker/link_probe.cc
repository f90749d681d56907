#include "worker/link_probe.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/str.h"

namespace thermocline::worker {
namespace {

// Between two looks at the stop flag.
constexpr Duration kPollInterval = std::chrono::milliseconds(20);
// The first answer may take this long beyond the budget: the other end starts when it gets to it.
constexpr Duration kStartGrace = std::chrono::milliseconds(700);
// Of a lead that has steps to do: the other end waits for it already, so an answer is a round trip
// away. With the budget and the opening of the link this is what streams wait for at most.
constexpr Duration kServingGrace = std::chrono::milliseconds(100);
// Of the other end, which must not say that nothing came before the lead has said what it knows.
constexpr Duration kEchoGrace = kStartGrace + std::chrono::milliseconds(200);
// Opening a link takes some milliseconds, on a busy machine tenths of a second.
constexpr Duration kServingOpen = std::chrono::seconds(1);

// The first frames open connections and grow buffers.
constexpr int kWarmUps = 3;
// On a fast link these take some milliseconds; the median of more is no better.
constexpr int kMaxSmall = 100, kMaxLarge = 12;
// Of the budget, the part that small frames may take.
constexpr double kSmallShare = 0.4;
// By how much the bytes of a large frame shall lengthen a round trip, in round trips of a small
// one, whose noise, a tenth of it, is then a fortieth of what is measured.
constexpr double kTripsWorth = 4;
// One sample may come out short by chance, and must not ask for minutes; nor need a frame of
// kLeastProbeBytes be only just in time.
constexpr size_t kMostGrowth = 8;
constexpr double kTimesInTime = 2;
// No memory is faster; keeps a slope that was lost in noise finite.
constexpr double kMaxBytesPerS = 1e12;

// The header of a probe's frames: what the receiver does with it, and u32 round. No message begins
// so: it would be a Protobuf field that is no message.
constexpr std::byte kEcho{'e'}, kLast{'l'};
constexpr size_t kHeaderBytes = 1 + sizeof(uint32_t);
using ProbeHeader = std::array<std::byte, kHeaderBytes>;

ProbeHeader HeaderOf(std::byte kind, uint32_t round) {
  ProbeHeader header{kind};
  std::memcpy(header.data() + 1, &round, sizeof round);
  return header;
}

uint32_t RoundOf(std::span<const std::byte> header) {
  uint32_t round = 0;
  std::memcpy(&round, header.data() + 1, sizeof round);
  return round;
}

// Of the samples from `first` on, of which there is at least one.
double Median(std::vector<double> samples, size_t first) {
  const auto begin = samples.begin() + static_cast<std::ptrdiff_t>(first);
  const auto middle = begin + (samples.end() - begin) / 2;
  std::nth_element(begin, middle, samples.end());
  return *middle;
}

// One size of large frames, and how long they took.
struct LargeFrames {
  size_t n_bytes = kFirstProbeBytes;
  double seconds = 0;    // there and back; of one that is late, that it was waited for
  bool is_late = false;  // the last one

  // What the bytes add to one way tells the rate.
  double BytesPerS(double round_trip_s) const {
    const auto bytes = static_cast<double>(n_bytes);
    return bytes / std::max((seconds - round_trip_s) / 2, bytes / kMaxBytesPerS);
  }
};

// What is left of a probe's time.
struct TimeLeft {
  double to_measure_s = 0;
  double to_wait_s = 0;
};

// The size that the link asks for, of which two more fit into the time for samples; no smaller than
// kLeastProbeBytes where one of that is back long before nobody waits for it any more, nor than the
// one that there is.
size_t SizeToTry(const LargeFrames& tried, double round_trip_s, const TimeLeft& left) {
  const double n_bytes = static_cast<double>(tried.n_bytes);
  const double more_s = std::max(tried.seconds - round_trip_s, n_bytes / kMaxBytesPerS);
  const auto trip_s = [&](size_t bytes) {
    return round_trip_s + static_cast<double>(bytes) * more_s / n_bytes;
  };
  double size = 0;
  if (more_s < kTripsWorth * round_trip_s) {
    const double wanted = n_bytes * kTripsWorth * round_trip_s / more_s + kFirstProbeBytes;
    const double in_time = n_bytes * std::max(0.0, left.to_measure_s / 2 - round_trip_s) / more_s;
    const auto most = static_cast<double>(std::min(kMostGrowth * tried.n_bytes, kMaxProbeBytes));
    size = std::min({wanted, in_time, most});
  }
  if (kTimesInTime * trip_s(kLeastProbeBytes) <= left.to_wait_s) {
    size = std::max(size, static_cast<double>(kLeastProbeBytes));
  }
  const auto n_units = static_cast<size_t>(size / static_cast<double>(kFirstProbeBytes));
  return std::max(tried.n_bytes, n_units * kFirstProbeBytes);
}

// One end of a probe, with the times its sends took.
class ProbeEnd {
 public:
  ProbeEnd(comm::Link& link, const Clock& clock, const ProbeTerms& terms, DeviceHop* hop)
      : link_(link), clock_(clock), terms_(terms), hop_(hop) {}

  Status Send(std::byte kind, std::span<const std::byte> payload) {
    if (hop_ != nullptr) TC_RETURN_IF_ERROR(hop_->Out(payload.size()));
    const TimePoint began = clock_.Now();
    const ProbeHeader header = HeaderOf(kind, terms_.round);
    TC_RETURN_IF_ERROR(link_.Send({header, payload}, terms_.give_up_at));
    if (payload.empty()) send_s_.push_back(Seconds(clock_.Now() - began));
    return OkStatus();
  }

  // The next frame of this probe; its kind. Those that another one has left are dropped.
  Result<std::byte> Receive() {
    while (true) {
      const TimePoint now = clock_.Now();
      if (terms_.stop) return Aborted("the probe was stopped");
      const Status received =
          link_.Receive(&frame_, std::min(now + kPollInterval, terms_.give_up_at));
      if (received.ok()) {
        if (!IsProbeFrame(frame_.header)) {
          return DataLoss("a frame that is no probe's; is --shape the same at both ends?");
        }
        if (RoundOf(frame_.header) == terms_.round) break;
      } else if (received.code() != StatusCode::kDeadlineExceeded) {
        return received;
      }
      if (now >= terms_.give_up_at) return DeadlineExceeded("no answer in time");
    }
    if (hop_ != nullptr) TC_RETURN_IF_ERROR(hop_->In(frame_.payload.size()));
    return frame_.header[0];
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

  // The median of as many round trips of small frames as there is time for, after those that warm
  // up; of a link that is slow, of the last.
  Result<double> SmallRoundTrip(TimePoint until) {
    std::vector<double> seconds;
    do {
      const auto sample = RoundTrip(kEcho, {});
      const bool is_late = sample.status().code() == StatusCode::kDeadlineExceeded;
      if (is_late && !seconds.empty()) break;
      if (!sample.ok()) return sample.status();
      seconds.push_back(*sample);
    } while (seconds.size() < 2 || (seconds.size() < kWarmUps + kMaxSmall && clock_.Now() < until));
    return Median(seconds, std::min<size_t>(kWarmUps, seconds.size() - 1));
  }

  // The same of large ones, after the first of their size, as large as the link asks for. Of one
  // that is late and those before it, what tells of the slower link.
  Result<LargeFrames> LargeRoundTrip(double round_trip_s) {
    LargeFrames frames, before{.is_late = true};
    if (clock_.Now() >= terms_.give_up_at) return before;  // a small one may still come
    std::vector<std::byte> payload(frames.n_bytes);
    std::vector<double> seconds;
    do {
      const TimePoint began = clock_.Now();
      const auto sample = RoundTrip(kEcho, payload);
      if (!sample.ok() && sample.status().code() != StatusCode::kDeadlineExceeded) {
        return sample.status();
      }
      if (!sample.ok()) {
        const LargeFrames late{payload.size(), Seconds(clock_.Now() - began), true};
        return before.BytesPerS(round_trip_s) < late.BytesPerS(round_trip_s) ? before : late;
      }
      seconds.push_back(*sample);
      frames.seconds = Median(seconds, seconds.size() > 1 ? 1 : 0);
      before = {frames.n_bytes, frames.seconds, true};
      const TimePoint now = clock_.Now();
      const size_t n_bytes =
          SizeToTry(frames, round_trip_s,
                    {Seconds(terms_.measure_until - now), Seconds(terms_.give_up_at - now)});
      if (n_bytes == frames.n_bytes) continue;
      frames.n_bytes = n_bytes;
      payload.resize(n_bytes);
      seconds.clear();
    } while (seconds.empty() ||
             (seconds.size() <= kMaxLarge && clock_.Now() < terms_.measure_until));
    return frames;
  }

  // Until the last frame has left; without it the other end would wait for it.
  Status Flush() {
    while (true) {
      TC_ASSIGN_OR_RETURN(const bool done, link_.Flush());
      if (done) return OkStatus();
      if (clock_.Now() >= terms_.give_up_at) return DeadlineExceeded("a frame did not leave");
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
  const ProbeTerms& terms_;
  DeviceHop* hop_;
  comm::Frame frame_;
  std::vector<double> send_s_;
};

}  // namespace

bool IsProbeFrame(std::span<const std::byte> header) {
  return header.size() == kHeaderBytes && (header[0] == kEcho || header[0] == kLast);
}

Result<LinkFigures> LeadProbe(comm::Link& link, const Clock& clock, const ProbeTerms& terms,
                              DeviceHop* hop) {
  ProbeEnd end(link, clock, terms, hop);
  const TimePoint began = clock.Now();
  const TimePoint small_until =
      began + std::chrono::duration_cast<Duration>(
                  kSmallShare * std::max(terms.measure_until - began, Duration(0)));
  LinkFigures figures;
  TC_ASSIGN_OR_RETURN(figures.round_trip_s, end.SmallRoundTrip(small_until));
  TC_ASSIGN_OR_RETURN(const LargeFrames large, end.LargeRoundTrip(figures.round_trip_s));
  figures.bytes_per_s = large.BytesPerS(figures.round_trip_s);
  figures.message_s = end.SendSeconds();
  figures.rate_is_bound = figures.echo_waits = large.is_late;
  if (large.is_late) return figures;
  Status ended = end.RoundTrip(kLast, {}).status();
  if (ended.ok()) ended = end.Flush();
  figures.echo_waits = ended.code() == StatusCode::kDeadlineExceeded;
  if (!ended.ok() && !figures.echo_waits) return ended;
  return figures;
}

Result<LinkFigures> EchoProbe(comm::Link& link, const Clock& clock, const ProbeTerms& terms,
                              DeviceHop* hop) {
  ProbeEnd end(link, clock, terms, hop);
  while (true) {
    TC_ASSIGN_OR_RETURN(const std::byte kind, end.Receive());
    TC_RETURN_IF_ERROR(end.Send(kind, end.payload()));
    if (kind != kLast) continue;
    TC_RETURN_IF_ERROR(end.Flush());
    return LinkFigures{.message_s = end.SendSeconds()};
  }
}

namespace {

Result<LinkFigures> Probe(const ProbeContext& context, const proto::ProbeLink& request,
                          const std::atomic<bool>& stop) {
  using std::chrono::microseconds;
  const Duration budget = microseconds(request.budget_us);
  const Duration patience = microseconds(request.patience_us);
  const bool is_serving = patience > Duration(0);
  const bool is_awaited = request.leads && is_serving;
  if (context.hop != nullptr) TC_RETURN_IF_ERROR(context.hop->Prepare());
  TimePoint began = context.clock.Now();
  context.port.SetSelf(context.self);
  TC_ASSIGN_OR_RETURN(const auto link,
                      is_serving
                          ? context.port.OpenWithin(request.peer, request.address, kServingOpen)
                          : context.port.Open(request.peer, request.address));
  if (is_awaited) began = context.clock.Now();
  const Duration grace = is_awaited      ? kServingGrace
                         : request.leads ? kStartGrace
                                         : kEchoGrace + patience;
  const ProbeTerms terms{request.round, began + budget, began + budget + grace, stop};
  return request.leads ? LeadProbe(*link, context.clock, terms, context.hop)
                       : EchoProbe(*link, context.clock, terms, context.hop);
}

}  // namespace

proto::LinkReport MeasureLink(const ProbeContext& context, const proto::ProbeLink& request,
                              const std::atomic<bool>& stop) {
  const auto figures = Probe(context, request, stop);
  proto::LinkReport report{.round = request.round, .peer = request.peer};
  if (!figures.ok()) {
    report.error = figures.status().message();
    return report;
  }
  report.round_trip_s = figures->round_trip_s;
  report.bytes_per_s = figures->bytes_per_s;
  report.message_s = figures->message_s;
  report.rate_is_bound = figures->rate_is_bound;
  report.echo_waits = figures->echo_waits;
  return report;
}

}  // namespace thermocline::worker
