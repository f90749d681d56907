#include "placement/solver/stage_sketch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

namespace thermocline::placement {
namespace {

constexpr double kNoFit = std::numeric_limits<double>::infinity();
constexpr int kPoints = 33;       // of a layer, at which tables are known; straight lines between
constexpr int kSampleLayers = 4;  // whose mean stands for all
constexpr int kHalvings = 24;     // of the time that a layer takes

// The largest x in [from, kPoints - 1] with table(x) <= most; tables do not descend.
double Reach(const std::vector<double>& table, double from, double most) {
  const auto above = std::upper_bound(table.begin(), table.end(), most);
  if (above == table.end()) return kPoints - 1;
  const auto i = above - table.begin();
  if (i == 0) return from;
  const double step = *above - *(above - 1);
  const double x = static_cast<double>(i - 1) + (most - *(above - 1)) / step;
  return std::max(from, x);
}

double At(const std::vector<double>& table, double point) {
  const auto i = std::min(static_cast<size_t>(point), table.size() - 2);
  return table[i] + (point - static_cast<double>(i)) * (table[i + 1] - table[i]);
}

int PointBlock(int point, int n_blocks) { return point * n_blocks / (kPoints - 1); }

int SampleLayer(int sample, int n_layer) {
  return (2 * sample + 1) * n_layer / (2 * kSampleLayers);
}

double Room(const std::optional<SplitProblem>& problem, size_t member) {
  return problem ? static_cast<double>(problem->devices[member].memory_bytes) : 0;
}

// Of a layer's neurons; `otherwise` where nothing is known of the layer.
double Total(const SplitProblem& problem, double otherwise) {
  if (problem.layers.empty()) return otherwise;
  const std::vector<uint64_t>& bytes = problem.layers[0].block_bytes;
  return static_cast<double>(std::accumulate(bytes.begin(), bytes.end(), uint64_t{0}));
}

}  // namespace

StageSketch::StageSketch(const StageModel& model) : model_(model) {
  devices_.resize(static_cast<size_t>(model.n_devices()));
  for (int d = 0; d < model.n_devices(); ++d) MeasureAlone(d);
  for (int d = 0; d < model.n_devices(); ++d) MeasureShared(d);
  AddSeconds();
}

void StageSketch::MeasureAlone(int d) {
  Device& own = devices_[static_cast<size_t>(d)];
  const int n = model_.n_layer(), middle = n / 2;
  const auto one = model_.Problem(middle, middle + 1, {d});
  if (!one) return;
  own.can_lead = true;
  const SplitLayer& layer = one->layers[0];
  own.fixed_s = layer.fixed_s;
  own.alone_s = layer.fixed_s + one->devices[0].part_s + layer.seconds[0].back();
  own.alone_room = Room(one, 0);
  if (n < 3) return;
  own.alone_layer = own.alone_room - Room(model_.Problem(middle - 1, middle + 1, {d}), 0);
  const auto first = model_.Problem(0, 1, {d}), last = model_.Problem(n - 1, n, {d});
  if (first) own.embed_s = std::max(0.0, first->layers[0].fixed_s - own.fixed_s);
  if (last) own.head_s = std::max(0.0, last->layers[0].fixed_s - own.fixed_s);
  own.embed_room = std::max(0.0, Room(one, 0) - Room(first, 0));
  own.head_room = std::max(0.0, Room(one, 0) - Room(last, 0));
}

// As a lead with each other device, and what that is as its helper.
void StageSketch::MeasureShared(int lead) {
  Device& own = devices_[static_cast<size_t>(lead)];
  const int middle = model_.n_layer() / 2;
  own.helped.resize(devices_.size());
  for (int d = 0; d < model_.n_devices(); ++d) {
    if (d == lead || !own.can_lead) continue;
    const auto pair = model_.Problem(middle, middle + 1, {lead, d});
    if (!pair) continue;
    own.helped[static_cast<size_t>(d)] = pair->devices[1];
    devices_[static_cast<size_t>(d)].helper_room = Room(pair, 1);
    if (own.lead_room > 0) continue;
    own.lead_room = Room(pair, 0);
    MeasureRoom(lead, d);
    own.helped[static_cast<size_t>(lead)] = pair->devices[0];
    own.fixed_s = pair->layers[0].fixed_s;
  }
}

void StageSketch::MeasureRoom(int lead, int helper) {
  Device& own = devices_[static_cast<size_t>(lead)];
  const int n = model_.n_layer(), middle = n / 2;
  if (n >= 3) {
    const auto longer = model_.Problem(middle - 1, middle + 1, {lead, helper});
    own.lead_layer = own.lead_room - Room(longer, 0);
  }
  for (int other = 0; other < model_.n_devices(); ++other) {
    if (other == lead || other == helper) continue;
    const auto more = model_.Problem(middle, middle + 1, {lead, helper, other});
    own.lead_helper = own.lead_room - Room(more, 0);
    return;
  }
}

void StageSketch::AddSeconds() {
  bytes_.assign(kPoints, 0);
  alone_bytes_ = 0;
  for (Device& device : devices_) device.seconds.assign(kPoints, 0);
  for (int s = 0; s < kSampleLayers; ++s) {
    const int l = SampleLayer(s, model_.n_layer());
    for (int d = 0; d < model_.n_devices(); ++d) {
      // As members of a shared stage have their neurons, where there is one.
      std::vector<int> group = {d};
      if (model_.n_devices() > 1) group.push_back(d == 0 ? 1 : 0);
      const SplitProblem problem = model_.Times(l, l + 1, group);
      Device& own = devices_[static_cast<size_t>(d)];
      if (problem.layers.empty()) {
        own.can_lead = false;
        own.helper_room = 0;
        continue;
      }
      const SplitLayer& layer = problem.layers[0];
      std::vector<double>& seconds = own.seconds;
      for (int p = 0; p < kPoints; ++p) {
        seconds[static_cast<size_t>(p)] +=
            layer.seconds[0][static_cast<size_t>(PointBlock(p, layer.n_blocks()))] / kSampleLayers;
      }
      if (d > 0) continue;
      double bytes = 0;
      for (int p = 0, b = 0; p < kPoints; ++p) {
        for (; b < PointBlock(p, layer.n_blocks()); ++b) {
          bytes += static_cast<double>(layer.block_bytes[static_cast<size_t>(b)]);
        }
        bytes_[static_cast<size_t>(p)] += bytes / kSampleLayers;
      }
      alone_bytes_ += Total(model_.Times(l, l + 1, {d}), bytes) / kSampleLayers;
    }
  }
}

StageEstimate StageSketch::Of(const std::vector<int>& group, int n_layers, StagePlace place,
                              double evenness) {
  if (!devices_[static_cast<size_t>(group[0])].can_lead) return {kNoFit, kNoFit};
  if (group.size() == 1) return Alone(group[0], n_layers, place);
  std::vector<int> key = group;
  key.push_back(n_layers);
  key.push_back(2 * place.is_first + place.is_last);
  key.push_back(static_cast<int>(std::lround(64 * evenness)));
  uint64_t hash = 1469598103934665603U;  // FNV-1a
  for (const int k : key) hash = (hash ^ static_cast<uint64_t>(k)) * 1099511628211U;
  auto& bucket = known_[hash];
  for (const auto& [known, estimate] : bucket) {
    if (known == key) return estimate;
  }
  const StageEstimate estimate = Shared(group, n_layers, place, evenness);
  bucket.emplace_back(std::move(key), estimate);
  return estimate;
}

StageEstimate StageSketch::Alone(int d, int n_layers, StagePlace place) const {
  const Device& own = devices_[static_cast<size_t>(d)];
  if (RoomOf({d}, 0, n_layers, place) < alone_bytes_) return {kNoFit, kNoFit};
  const double seconds = own.alone_s * n_layers + (place.is_first ? own.embed_s : 0) +
                         (place.is_last ? own.head_s : 0);
  return {seconds, seconds};
}

// Bytes for the neurons of one layer.
double StageSketch::RoomOf(const std::vector<int>& group, size_t member, int n_layers,
                           StagePlace place) const {
  const Device& own = devices_[static_cast<size_t>(group[member])];
  if (member > 0) return own.helper_room / n_layers;
  const double ends = (place.is_first ? own.embed_room : 0) + (place.is_last ? own.head_room : 0);
  const double others = n_layers - 1;
  const double room = group.size() == 1
                          ? own.alone_room - own.alone_layer * others
                          : own.lead_room - own.lead_layer * others -
                                own.lead_helper * (static_cast<double>(group.size()) - 2);
  return (room - ends) / n_layers;
}

// Gives neurons from the hot end on, the fastest device first, each as many as it has time and room
// for. False: some are left.
bool StageSketch::Fill(std::vector<Member>& members, double until_s) const {
  double at = 0;
  for (Member& member : members) {
    const std::vector<double>& seconds = devices_[static_cast<size_t>(member.device)].seconds;
    const double begin_s = At(seconds, at), time_s = until_s - member.offset_s;
    member.work_s = 0;
    if (time_s > 0 && at < kPoints - 1) {
      double end = Reach(seconds, at, begin_s + time_s);
      end = std::min(end, Reach(bytes_, at, At(bytes_, at) + std::max(0.0, member.room)));
      member.work_s = At(seconds, end) - begin_s;
      at = end;
    }
  }
  return at >= kPoints - 1 - 1e-9;
}

StageEstimate StageSketch::Shared(const std::vector<int>& group, int n_layers, StagePlace place,
                                  double evenness) const {
  const Device& lead = devices_[static_cast<size_t>(group[0])];
  const double room = RoomOf(group, 0, n_layers, place);
  if (room < 0) return {kNoFit, kNoFit};
  std::vector<Member> members;
  double high = 0, sends_busy = 0, merges = 0, sends = 0;
  for (size_t m = 0; m < group.size(); ++m) {
    members.push_back({.device = group[m], .room = RoomOf(group, m, n_layers, place)});
    high += devices_[static_cast<size_t>(group[m])].seconds.back();
  }
  std::stable_sort(members.begin(), members.end(), [&](const Member& a, const Member& b) {
    return devices_[static_cast<size_t>(a.device)].seconds.back() <
           devices_[static_cast<size_t>(b.device)].seconds.back();
  });
  for (const int d : group) {
    if (d == group[0]) continue;
    sends_busy += lead.helped[static_cast<size_t>(d)].send_busy_s;
    merges += lead.helped[static_cast<size_t>(d)].merge_s;
  }
  std::vector<double> links(members.size(), 0.0);  // before a helper's part
  for (size_t m = 0; m < members.size(); ++m) {
    const SplitDevice& link = lead.helped[static_cast<size_t>(members[m].device)];
    if (members[m].device == group[0]) {
      members[m].offset_s = link.part_s + sends_busy + evenness * (lead.fixed_s + merges);
    } else {
      sends += link.send_s;
      links[m] = sends + link.round_trip_s;
      members[m].offset_s = link.part_s + (1 - evenness) * links[m];
    }
    high = std::max(high, members[m].offset_s) + members[m].offset_s;
  }
  if (!Fill(members, high)) return {kNoFit, kNoFit};
  double low = 0;
  for (int i = 0; i < kHalvings && high - low > 1e-3 * high; ++i) {
    const double middle = 0.5 * (low + high);
    (Fill(members, middle) ? high : low) = middle;
  }
  Fill(members, high);
  double end = 0, busiest = 0;
  for (size_t m = 0; m < members.size(); ++m) {
    const Member& member = members[m];
    const bool is_lead = member.device == group[0];
    if (member.work_s <= 0 && !is_lead) continue;
    const double part = lead.helped[static_cast<size_t>(member.device)].part_s + member.work_s;
    end = std::max(end, part + (is_lead ? sends_busy : links[m]));
    busiest = std::max(busiest, part + (is_lead ? sends_busy + lead.fixed_s + merges : 0));
  }
  const double ends = (place.is_first ? lead.embed_s : 0) + (place.is_last ? lead.head_s : 0);
  return {(lead.fixed_s + end + merges) * n_layers + ends, busiest * n_layers + ends};
}

}  // namespace thermocline::placement
