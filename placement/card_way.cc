#include "placement/card_way.h"

#include <algorithm>

#include "placement/plan_links.h"

namespace thermocline::placement {

const GpuInfo* CardOf(const WorkerProfile& worker) {
  const auto at = static_cast<size_t>(worker.gpu);
  return worker.gpu >= 0 && at < worker.gpus.size() ? &worker.gpus[at] : nullptr;
}

std::optional<CardWay> FindCardWay(const WorkerProfile& from, const WorkerProfile& to) {
  if (from.gpu < 0 || to.gpu < 0 || from.gpu == to.gpu || !ShareHost(from, to)) return std::nullopt;
  if (from.nccl_version.empty() || from.nccl_version != to.nccl_version) return std::nullopt;
  // What they see may differ, be it by containers: a number must mean the same card to both.
  const auto is_same_card = [&](int gpu) {
    const auto i = static_cast<size_t>(gpu);
    return i < from.gpus.size() && i < to.gpus.size() &&
           from.gpus[i].pci_bus_id == to.gpus[i].pci_bus_id;
  };
  if (!is_same_card(from.gpu) || !is_same_card(to.gpu)) return std::nullopt;
  const std::vector<GpuPeer>& peers = from.gpus[static_cast<size_t>(from.gpu)].peers;
  const auto peer = std::find_if(peers.begin(), peers.end(),
                                 [&](const GpuPeer& other) { return other.gpu == to.gpu; });
  if (peer == peers.end() || !peer->latency_s.known() || !peer->bytes_per_s.known()) {
    return std::nullopt;
  }
  return CardWay{peer->latency_s.value, peer->bytes_per_s.value};
}

}  // namespace thermocline::placement
