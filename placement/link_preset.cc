#include "placement/link_preset.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "base/str.h"
#include "placement/card_way.h"

namespace thermocline::placement {
namespace {

// Of kernel sockets and MPI's TCP a send costs some microseconds; a ZeroMQ message is handed to
// another thread at each end. Devices that move the bytes themselves cost about one.
constexpr double kSocketUs = 4, kZmqUs = 10, kRdmaUs = 1;

constexpr std::array kPresets = {
    LinkPreset{"shm", 1, 8, 0.5, "two processes of one host, MPI's shared memory"},
    LinkPreset{"tcp-loopback", 8, 4, kSocketUs, "two processes of one host, TCP"},
    LinkPreset{"zmq-loopback", 26, 2.5, kZmqUs, "two processes of one host, ZeroMQ"},
    LinkPreset{"1gbe-tcp", 30, 0.117, kSocketUs, "1 Gbit Ethernet, TCP"},
    LinkPreset{"1gbe-roce", 24, 0.115, kSocketUs, "1 Gbit Ethernet, RoCE by the kernel"},
    LinkPreset{"2.5gbe-tcp", 30, 0.29, kSocketUs, "2.5 Gbit Ethernet, TCP"},
    LinkPreset{"10gbe-tcp", 17, 1.15, kSocketUs, "10 Gbit Ethernet, TCP"},
    LinkPreset{"10gbe-roce", 4, 1.15, kRdmaUs, "10 Gbit Ethernet, RoCE"},
    LinkPreset{"25gbe-tcp", 16, 2.6, kSocketUs, "25 Gbit Ethernet, TCP"},
    LinkPreset{"25gbe-roce", 4, 2.9, kRdmaUs, "25 Gbit Ethernet, RoCE"},
    LinkPreset{"40gbe-rdma", 2, 4.6, kRdmaUs, "40 Gbit Ethernet, RDMA"},
    LinkPreset{"100gbe-tcp", 15, 4, kSocketUs, "100 Gbit Ethernet, one TCP stream"},
    LinkPreset{"100gbe-roce", 3.5, 11.5, kRdmaUs, "100 Gbit Ethernet, RoCE"},
    LinkPreset{"200gbe-roce", 3, 23, kRdmaUs, "200 Gbit Ethernet, RoCE"},
    LinkPreset{"ib-edr", 1.3, 12, kRdmaUs, "InfiniBand EDR, 100 Gbit"},
    LinkPreset{"ib-hdr", 1.2, 24, kRdmaUs, "InfiniBand HDR, 200 Gbit"},
    LinkPreset{"ib-ndr", 1.5, 48, kRdmaUs, "InfiniBand NDR, 400 Gbit"},
    LinkPreset{"pcie3", 8, 11, kRdmaUs, "PCIe 3 x16, between devices"},
    LinkPreset{"pcie4", 6, 24, kRdmaUs, "PCIe 4 x16, between devices"},
    LinkPreset{"pcie5", 5, 54, kRdmaUs, "PCIe 5 x16, between devices"},
    LinkPreset{"gpu-numa", 10, 10, kRdmaUs, "two GPUs of one host, each at a CPU of its own"},
    LinkPreset{"nvlink2", 8, 115, kRdmaUs, "NVLink 2, NCCL, launch included"},
    LinkPreset{"nvlink3", 8, 230, kRdmaUs, "NVLink 3, NCCL, launch included"},
    LinkPreset{"nvlink4", 5, 350, kRdmaUs, "NVLink 4, NCCL, launch included"},
    LinkPreset{"nvlink5", 5, 690, kRdmaUs, "NVLink 5, NCCL, launch included"},
    LinkPreset{"thunderbolt5-tcp", 300, 4, kSocketUs, "Thunderbolt 5, TCP"},
    LinkPreset{"wifi", 2500, 0.04, kSocketUs, "wireless LAN"},
    LinkPreset{"wan", 25000, 0.0125, kSocketUs, "between regions, 100 Mbit"},
};

// How many links the presets of NVLink are of: all that a data-centre GPU of that generation has.
struct NvlinkPreset {
  int generation;
  int n_links;
  std::string_view preset;
};
constexpr std::array kNvlinks = {NvlinkPreset{2, 6, "nvlink2"}, NvlinkPreset{3, 12, "nvlink3"},
                                 NvlinkPreset{4, 18, "nvlink4"}, NvlinkPreset{5, 18, "nvlink5"}};
constexpr std::string_view kCopiesNote = "with the copies from and to GPUs";
// Beyond any card, and far from what a double cannot hold.
constexpr double kMostCopySeconds = 1e6, kLeastCopyBytesPerS = 1;
// The presets of PCIe are of so many lanes.
constexpr int kPcieLanes = 16;
constexpr int kFirstPciePreset = 3, kLastPciePreset = 5;

void FillFigure(double assumed, Figure* figure) {
  if (!figure->known()) *figure = Figure::Assumed(assumed);
}

LinkPreset Scaled(LinkPreset preset, double share) {
  preset.gb_per_s *= share;
  return preset;
}

std::optional<LinkPreset> Named(std::string_view name) {
  const auto found = std::find_if(kPresets.begin(), kPresets.end(),
                                  [&](const LinkPreset& preset) { return preset.name == name; });
  return found == kPresets.end() ? std::nullopt : std::optional(*found);
}

// The preset of the generation, or of the nearest one that has any, for so many lanes.
std::optional<LinkPreset> PciePreset(int generation, int n_lanes) {
  if (generation < 1) return std::nullopt;
  const int known = std::clamp(generation, kFirstPciePreset, kLastPciePreset);
  const auto preset = Named(Str("pcie", known));
  // Each generation doubles the rate of a lane.
  const double lanes = n_lanes > 0 ? double(n_lanes) / kPcieLanes : 1;
  return Scaled(*preset, lanes * std::ldexp(1.0, std::min(generation - known, 0)));
}

std::optional<LinkPreset> NvlinkPresetOf(int generation, int n_links) {
  for (const NvlinkPreset& nvlink : kNvlinks) {
    if (nvlink.generation != generation) continue;
    return Scaled(*Named(nvlink.preset), double(n_links) / nvlink.n_links);
  }
  return std::nullopt;
}

std::optional<LinkPreset> PresetBetween(const GpuInfo& gpu, const GpuInfo& other,
                                        const GpuPeer& peer) {
  if (!peer.preset.empty()) return Named(peer.preset);
  if (peer.n_nvlinks > 0) {
    const int generation = std::min(gpu.nvlink_generation, other.nvlink_generation);
    if (auto nvlink = NvlinkPresetOf(generation, peer.n_nvlinks)) return nvlink;
  }
  if (peer.path == GpuPath::kUnknown) return std::nullopt;
  const auto pcie = PciePreset(std::min(gpu.pcie_generation, other.pcie_generation),
                               std::min(gpu.pcie_lanes, other.pcie_lanes));
  const auto across = Named("gpu-numa");
  const bool is_across = peer.path == GpuPath::kSystem;
  return is_across && (!pcie || across->gb_per_s < pcie->gb_per_s) ? across : pcie;
}

void FillPeer(const LinkPreset& preset, GpuPeer* peer) {
  constexpr double kMicro = 1e-6, kGiga = 1e9;
  if (!peer->latency_s.known() || !peer->bytes_per_s.known()) peer->preset = preset.name;
  FillFigure(preset.latency_us * kMicro, &peer->latency_s);
  FillFigure(preset.gb_per_s * kGiga, &peer->bytes_per_s);
}

bool IsKnown(const LinkProfile& link) {
  return link.latency_s.known() && link.bytes_per_s.known() && link.message_s.known();
}

// A link ends in the hosts' memory: a GPU's values are copied there before they are sent, and from
// there when they have come, whole, so that the times add up. What no card has is taken as the most
// and the least here, so that a link stays possible and who looks at the card names what it told.
void AddCopy(const Figure& copy_s, const Figure& bytes_per_s, LinkPreset* preset) {
  preset->latency_us += std::min(kMostCopySeconds, copy_s.value_or(0)) * 1e6;
  if (bytes_per_s.known()) {
    const double rate = std::max(kLeastCopyBytesPerS, bytes_per_s.value);
    preset->gb_per_s = 1 / (1 / preset->gb_per_s + 1e9 / rate);
  }
}

LinkPreset WithCopies(LinkPreset preset, const WorkerProfile& from, const WorkerProfile& to) {
  if (const GpuInfo* gpu = CardOf(from)) {
    AddCopy(gpu->copy_s, gpu->download_bytes_per_s, &preset);
  }
  if (const GpuInfo* gpu = CardOf(to)) AddCopy(gpu->copy_s, gpu->upload_bytes_per_s, &preset);
  return preset;
}

// Whether numbers of the link that are unknown will have copies in them.
bool TakesCopies(const LinkProfile& link, const LinkPreset& preset, const LinkPreset& copied) {
  return (!link.latency_s.known() && copied.latency_us != preset.latency_us) ||
         (!link.bytes_per_s.known() && copied.gb_per_s != preset.gb_per_s);
}

void AddNote(std::string_view text, std::string* note) {
  *note += Str(note->empty() ? "" : "; ", text);
}

// What is taken of a link of which nothing is known.
Result<LinkPreset> PresetOf(const LinkProfile& link, bool within_host,
                            const LinkPreset& between_hosts) {
  if (!link.preset.empty()) return FindLinkPreset(link.preset);
  if (!within_host) return between_hosts;
  return FindLinkPreset(link.transport == LinkKind::kMpi ? "shm" : "zmq-loopback");
}

}  // namespace

std::span<const LinkPreset> LinkPresets() { return kPresets; }

Result<LinkPreset> FindLinkPreset(std::string_view name) {
  std::string names;
  for (const LinkPreset& preset : kPresets) {
    if (preset.name == name) return preset;
    names += Str(names.empty() ? "" : ", ", preset.name);
  }
  return InvalidArgument(Str("no such kind of link: ", Printable(name), "; there are ", names));
}

void FillLink(const LinkPreset& preset, LinkProfile* link) {
  constexpr double kMicro = 1e-6, kGiga = 1e9;
  if (!IsKnown(*link)) link->preset = preset.name;
  FillFigure(preset.latency_us * kMicro, &link->latency_s);
  FillFigure(preset.gb_per_s * kGiga, &link->bytes_per_s);
  FillFigure(preset.message_us * kMicro, &link->message_s);
}

void FillGpus(WorkerProfile* worker) {
  for (GpuInfo& gpu : worker->gpus) {
    if (const auto pcie = PciePreset(gpu.pcie_generation, gpu.pcie_lanes)) {
      FillFigure(pcie->gb_per_s * 1e9, &gpu.upload_bytes_per_s);
      FillFigure(pcie->gb_per_s * 1e9, &gpu.download_bytes_per_s);
      FillFigure(pcie->latency_us * 1e-6, &gpu.copy_s);
    }
    for (GpuPeer& peer : gpu.peers) {
      const auto at = static_cast<size_t>(peer.gpu);
      if (at >= worker->gpus.size()) continue;  // ValidateCluster names it
      const auto preset = PresetBetween(gpu, worker->gpus[at], peer);
      if (preset) FillPeer(*preset, &peer);
    }
  }
}

Status FillLinks(const LinkPreset& between_hosts, const PairTransport& transport,
                 ClusterProfile* cluster) {
  for (WorkerProfile& worker : cluster->workers) FillGpus(&worker);
  std::vector<LinkProfile> links;
  for (const WorkerProfile& from : cluster->workers) {
    for (const WorkerProfile& to : cluster->workers) {
      if (from.id == to.id) continue;
      const LinkProfile* const known = cluster->FindLink(from.id, to.id);
      LinkProfile link{.from = from.id, .to = to.id, .transport = transport(from.id, to.id)};
      const LinkProfile* const back = cluster->FindLink(to.id, from.id);
      if (known == nullptr && back != nullptr) link.transport = back->transport;
      if (known != nullptr) link = *known;
      const bool within_host = !from.host.empty() && from.host == to.host;
      TC_ASSIGN_OR_RETURN(const LinkPreset preset, PresetOf(link, within_host, between_hosts));
      const LinkPreset copied = WithCopies(preset, from, to);
      if (TakesCopies(link, preset, copied)) AddNote(kCopiesNote, &link.note);
      FillLink(copied, &link);
      links.push_back(std::move(link));
    }
  }
  cluster->links = std::move(links);
  return OkStatus();
}

}  // namespace thermocline::placement
