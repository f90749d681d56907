#include "placement/card_way.h"

#include <algorithm>

#include "placement/plan_links.h"

namespace thermocline::placement {

std::optional<CardWay> FindCardWay(const WorkerProfile& from, const WorkerProfile& to) {
  if (from.gpu < 0 || to.gpu < 0 || from.gpu == to.gpu || !ShareHost(from, to)) return std::nullopt;
  if (from.nccl_version.empty() || from.nccl_version != to.nccl_version) return std::nullopt;
  const std::vector<GpuPeer>& peers = from.gpus[static_cast<size_t>(from.gpu)].peers;
  const auto peer = std::find_if(peers.begin(), peers.end(),
                                 [&](const GpuPeer& other) { return other.gpu == to.gpu; });
  if (peer == peers.end() || !peer->latency_s.known() || !peer->bytes_per_s.known()) {
    return std::nullopt;
  }
  return CardWay{peer->latency_s.value, peer->bytes_per_s.value};
}

}  // namespace thermocline::placement
