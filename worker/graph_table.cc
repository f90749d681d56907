#include "worker/graph_table.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "base/units.h"

namespace thermocline::worker {
namespace {

// Of what is offered; a card of 8 GiB or more gives what graphs may take.
constexpr uint64_t kGraphShare = 32;
// Of a launch at least, whatever was measured: drivers take memory in pieces, and arguments alone
// may be 4 KiB.
constexpr uint64_t kLeastLaunchBytes = uint64_t{4} << 10;
// Launches in graphs after which it is known what one takes: by then the pieces of some MiB in
// which drivers take memory hardly count.
constexpr int64_t kLaunchesToMeasure = 512;

}  // namespace

uint64_t GraphBytes(uint64_t offered_bytes) {
  return std::min(kMaxGraphBytes, offered_bytes / kGraphShare);
}

bool GraphTable::Entry::Is(const GraphShape& other) const {
  return shape_.place == other.place && shape_.n_rows == other.n_rows &&
         shape_.n_positions == other.n_positions && shape_.n_best == other.n_best &&
         std::ranges::equal(modes_, other.modes);
}

bool GraphTable::Entry::has_graphs() const {
  return std::ranges::any_of(pieces_, [](const auto& piece) { return piece.id != 0; });
}

GraphTable::GraphTable(kernels::Device& device, uint64_t memory_bytes)
    : device_(device),
      recorder_(*device.recorder()),
      memory_bytes_(memory_bytes),
      entries_(kShapes) {}

GraphTable::~GraphTable() {
  (void)device_.Synchronize();  // a device that is lost keeps what it has
  for (Entry& entry : entries_) Drop(&entry);
}

GraphTable::Entry* GraphTable::Come(const GraphShape& shape) {
  ++n_come_;
  Entry* const entry = Find(shape);
  if (entry == nullptr) return nullptr;
  entry->last_come_ = n_come_;
  if (entry->n_seen_ <= kComings) ++entry->n_seen_;
  return entry;
}

// The shape's entry, or that of the one that was not seen for longest; null when all have graphs
// that are in use.
GraphTable::Entry* GraphTable::Find(const GraphShape& shape) {
  const auto found = std::ranges::find_if(entries_, [&](const Entry& e) { return e.Is(shape); });
  if (found != entries_.end()) return &*found;
  Entry* place = Oldest(false);
  if (place == nullptr) {
    place = Oldest(true);
    if (place == nullptr || n_come_ - place->last_come_ < kStaleComings) return nullptr;
    (void)device_.Synchronize();
    Drop(place);
  }
  place->shape_ = shape;
  place->shape_.modes = {};
  place->modes_.assign(shape.modes.begin(), shape.modes.end());
  place->n_seen_ = 0;
  return place;
}

// Of those with graphs, or of those without, that nobody holds.
GraphTable::Entry* GraphTable::Oldest(bool has_graphs) {
  Entry* oldest = nullptr;
  for (Entry& entry : entries_) {
    if (entry.n_holders_ > 0 || entry.has_graphs() != has_graphs) continue;
    if (oldest == nullptr || entry.last_come_ < oldest->last_come_) oldest = &entry;
  }
  return oldest;
}

void GraphTable::Hold(Entry* entry) {
  if (entry != nullptr) ++entry->n_holders_;
}

void GraphTable::Release(Entry* entry) {
  if (entry != nullptr) --entry->n_holders_;
}

bool GraphTable::IsReady(const Entry& entry) {
  return entry.n_seen_ > kComings || entry.has_graphs();
}

Result<bool> GraphTable::Replay(Entry* entry, size_t piece, const kernels::StepArguments& arguments,
                                const std::function<Status()>& launch) {
  if (!IsReady(*entry)) return false;
  if (entry->pieces_.size() <= piece) entry->pieces_.resize(piece + 1);
  kernels::Recording& recording = entry->pieces_[piece];
  if (recording.id == 0 && entry->n_seen_ > kComings) {
    TC_RETURN_IF_ERROR(Record(entry, arguments, launch, &recording));
  }
  if (recording.id == 0) return false;
  recorder_.Replay(recording.id, arguments);
  return true;
}

Status GraphTable::Record(Entry* entry, const kernels::StepArguments& arguments,
                          const std::function<Status()>& launch, kernels::Recording* recording) {
  MakeRoom();
  const uint64_t free_before_bytes = device_.memory().free_bytes;
  const Status begun = recorder_.Begin(arguments, entry->shape_.n_positions);
  if (!begun.ok()) {
    Refuse(begun, entry);
    return OkStatus();
  }
  const Status launched = launch();
  const auto kept = recorder_.End(LaunchesLeft());
  if (!launched.ok()) {
    if (kept.ok()) recorder_.Drop(kept->id);
    return launched;
  }
  if (!kept.ok()) {
    Refuse(kept.status(), entry);
    return OkStatus();
  }
  *recording = *kept;
  ++n_graphs_;
  n_launches_ += kept->n_launches;
  most_launches_ = std::max(most_launches_, kept->n_launches);
  Measure(kept->n_launches, free_before_bytes);
  return OkStatus();
}

// No more graphs of this shape for a while.
void GraphTable::Refuse(const Status& why, Entry* entry) {
  const std::string text =
      Str("work is not replayed: ", why.message(), Kv("rows", entry->shape_.n_rows),
          Kv("positions", entry->shape_.n_positions));
  std::exchange(has_refused_, true) ? LogDebug("worker", text) : LogInfo("worker", text);
  entry->n_seen_ = -kStaleComings;
}

int64_t GraphTable::LaunchesLeft() const {
  const auto n_most = static_cast<int64_t>(memory_bytes_ / launch_bytes_);
  return std::max<int64_t>(n_most - n_launches_, 0);
}

// As long as there are graphs that nobody uses and the next may find none.
void GraphTable::MakeRoom() {
  while (LaunchesLeft() < most_launches_) {
    Entry* const oldest = Oldest(true);
    if (oldest == nullptr || n_come_ - oldest->last_come_ < kStaleComings) return;
    (void)device_.Synchronize();
    Drop(oldest);
  }
}

// Other programs on the card may be behind what is taken, which makes graphs fewer, never more.
void GraphTable::Measure(int64_t n_launches, uint64_t free_before_bytes) {
  if (n_measured_ >= kLaunchesToMeasure) return;
  n_measured_ += n_launches;
  const uint64_t free_bytes = device_.memory().free_bytes;
  measured_bytes_ += free_before_bytes - std::min(free_before_bytes, free_bytes);
  if (measured_bytes_ == 0) return;  // within what the driver had already
  launch_bytes_ =
      std::max(kLeastLaunchBytes, DivCeil(measured_bytes_, static_cast<uint64_t>(n_measured_)));
  if (n_measured_ < kLaunchesToMeasure) return;
  const std::string text =
      Str("work is replayed on ", device_.name(), ": ", n_measured_, " launches in graphs take ",
          FormatBytes(measured_bytes_), " of its memory, ", FormatBytes(memory_bytes_),
          " are kept free for them");
  measured_bytes_ > memory_bytes_ ? LogWarn("worker", text) : LogInfo("worker", text);
}

void GraphTable::Drop(Entry* entry) {
  for (const kernels::Recording& piece : std::exchange(entry->pieces_, {})) {
    if (piece.id == 0) continue;
    recorder_.Drop(piece.id);
    --n_graphs_;
    n_launches_ -= piece.n_launches;
  }
  entry->n_seen_ = 0;
}

}  // namespace thermocline::worker
