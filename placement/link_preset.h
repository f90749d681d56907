// Links as they usually are, for planning with hardware that nobody has measured yet.
//
// Source of the numbers: medians of published measurements; docs/cluster-profile.md lists them.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/status.h"
#include "placement/pair_transport.h"
#include "placement/profile.h"

namespace thermocline::placement {

struct LinkPreset {
  std::string_view name;
  double latency_us;    // one way, of a small message from program to program
  double gb_per_s;      // 1e9 bytes per second, one stream
  double message_us;    // of the sender's time
  std::string_view of;  // for people
};

std::span<const LinkPreset> LinkPresets();
// kInvalidArgument lists the names.
Result<LinkPreset> FindLinkPreset(std::string_view name);

// Numbers of the link that are unknown become the preset's, as assumed.
void FillLink(const LinkPreset& preset, LinkProfile* link);
// A link for every ordered pair of workers, where there is none by the transport of the way back,
// or by `transport`: what is unknown is
// filled in by the preset that the link names, else for two workers of one host by "shm" (MPI) or
// "zmq-loopback", else by `between_hosts`; and FillGpus of all workers. What is filled in has the
// copies of workers on GPUs in it, from the sender's card and to the receiver's, as a measured link
// has them. kInvalidArgument when a link names a preset that there is none of.
Status FillLinks(const LinkPreset& between_hosts, const PairTransport& transport,
                 ClusterProfile* cluster);

// What a GPU and its peers lack is filled in by what the driver tells of the hardware: NVLink and
// PCIe presets, by their generation and number of links or lanes. All of it is assumed; a GPU of
// which nothing is told keeps unknown numbers.
void FillGpus(WorkerProfile* worker);

// What is taken where nobody says what joins two hosts.
inline constexpr std::string_view kDefaultLinkPreset = "10gbe-tcp";

}  // namespace thermocline::placement
