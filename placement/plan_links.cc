#include "placement/plan_links.h"

#include <algorithm>
#include <vector>

#include "base/str.h"
#include "placement/plan_tables.h"

namespace thermocline::placement {
namespace {

using Pair = std::pair<WorkerId, WorkerId>;

std::optional<DType> WireOf(const PlanRequest& request, const WorkerProfile& a,
                            const WorkerProfile& b) {
  return ShareHost(a, b) ? std::nullopt : request.wire_between_hosts;
}

}  // namespace

bool ShareHost(const WorkerProfile& a, const WorkerProfile& b) {
  return !a.host.empty() && a.host == b.host;
}

SaidTransports TransportsOfText(std::string_view plan_json) {
  SaidTransports said;
  SaidOfLinks of_all;
  const auto file = PlanFileFromJson(plan_json, {}, &of_all);
  if (!file.ok()) return said;
  const Plan& plan = file->plan;
  if (of_all.link) said.all = plan.link;
  ForEachLink(plan, [&](WorkerId from, WorkerId to, const LinkChoice& choice) {
    if (choice.link) said.pairs[{from, to}] = said.pairs[{to, from}] = *choice.link;
  });
  return said;
}

PairTransport AsSaid(SaidTransports said, PairTransport otherwise) {
  if (said.all) otherwise = *said.all;
  return PairTransport(
      [pairs = std::move(said.pairs), otherwise = std::move(otherwise)](WorkerId a, WorkerId b) {
        const auto found = pairs.find({a, b});
        return found == pairs.end() ? otherwise(a, b) : found->second;
      });
}

PairWires PairWires::Of(const PlanRequest& request, const ClusterProfile& cluster) {
  PairWires wires(request.wire);
  if (!request.wire_between_hosts) return wires;
  for (const WorkerProfile& from : cluster.workers) {
    for (const WorkerProfile& to : cluster.workers) {
      if (const auto wire = WireOf(request, from, to)) wires.others_[{from.id, to.id}] = *wire;
    }
  }
  return wires;
}

PairWires PairWires::Of(const Plan& plan) {
  PairWires wires(plan.wire);
  ForEachLink(plan, [&](WorkerId from, WorkerId to, const LinkChoice& choice) {
    if (choice.wire) wires.others_[{from, to}] = wires.others_[{to, from}] = *choice.wire;
  });
  return wires;
}

DType PairWires::operator()(WorkerId a, WorkerId b) const {
  const auto found = others_.find({a, b});
  return found == others_.end() ? all_ : found->second;
}

void ChooseLinks(const ClusterProfile& cluster, const PlanRequest& request, SaidOfLinks said,
                 Plan* plan) {
  ForEachLink(*plan, [&](WorkerId from, WorkerId to, LinkChoice& choice) {
    const LinkProfile* const link = cluster.FindLink(from, to);
    const bool by_pair = request.link_by_pair && !said.link && !choice.link;
    if (by_pair && link != nullptr && link->transport != plan->link) choice.link = link->transport;
    const WorkerProfile *a = cluster.FindWorker(from), *b = cluster.FindWorker(to);
    if (said.wire || choice.wire || a == nullptr || b == nullptr) return;
    const auto wire = WireOf(request, *a, *b);
    if (wire && *wire != plan->wire) choice.wire = wire;
  });
}

Result<PlanFile> ReadPlan(std::string_view text, const ClusterProfile& cluster,
                          const PlanRequest& request) {
  const Plan defaults{.link = request.link, .wire = request.wire, .kv = request.kv};
  SaidOfLinks said;
  TC_ASSIGN_OR_RETURN(PlanFile file, PlanFileFromJson(text, defaults, &said));
  ChooseLinks(cluster, request, said, &file.plan);
  return file;
}

std::string WayText(const LinkWay& way) {
  return Str(LinkKindName(way.link), " (", DTypeName(way.wire), ")");
}

std::string WaysText(const Plan& plan) {
  std::vector<std::pair<LinkWay, int>> ways;
  ForEachLink(plan, [&](WorkerId, WorkerId, const LinkChoice& choice) {
    const LinkWay way = plan.WayOf(choice);
    const auto known = std::find_if(ways.begin(), ways.end(),
                                    [&](const auto& counted) { return counted.first == way; });
    known == ways.end() ? void(ways.emplace_back(way, 1)) : void(++known->second);
  });
  if (ways.empty()) return "";
  if (ways.size() == 1) {
    const LinkWay& way = ways.front().first;
    return Str(LinkKindName(way.link), " links (", DTypeName(way.wire), ")");
  }
  std::stable_sort(ways.begin(), ways.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (const auto& [way, n] : ways) text += Str(text.empty() ? "" : " and ", WayText(way));
  return text + " links";
}

std::string UnlikeText(const Plan& plan, const LinkChoice& choice) {
  const LinkWay way = plan.WayOf(choice);
  return way == plan.WayOf({}) ? "" : Str(" over ", WayText(way));
}

}  // namespace thermocline::placement
