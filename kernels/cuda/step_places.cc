#include "kernels/cuda/step_places.h"

#include <algorithm>
#include <cstring>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::kernels::cuda {
namespace {

// Of what a kernel reads, at least; a line of the cache.
constexpr uint64_t kAlignBytes = 128;
// Of one row: 8 query heads of a KV head each, so 16 hold 128 heads that share one.
constexpr uint64_t kTilesPerRow = 16;

}  // namespace

uint64_t StepPlaces::RoomOf(Place place) {
  constexpr auto kRowsMost = static_cast<uint64_t>(StepRecorder::kMaxRows);
  switch (place) {
    case kTokens:
    case kPositionIds:
    case kRows:
      return kRowsMost * sizeof(int32_t);
    case kPositions:
      return kRowsMost * sizeof(int64_t);
    case kSequences:
      return kRowsMost * sizeof(SequenceSpan);
    case kFrequencies:
      return kMaxHeadDim / 2 * sizeof(double);
    case kTiles:
      return kRowsMost * kTilesPerRow * sizeof(RowTile);
    case kPages:
      return 0;  // as the bounds say
  }
  return 0;
}

uint64_t StepPlaces::OffsetOf(Place place) {
  uint64_t offset = 0;
  for (uint8_t before = 0; before < place; ++before) {
    offset += RoundUp(RoomOf(static_cast<Place>(before)), kAlignBytes);
  }
  return offset;
}

uint64_t StepPlaces::BytesFor(const StepBounds& bounds) {
  return OffsetOf(kPages) + static_cast<uint64_t>(bounds.max_pages) * sizeof(int32_t);
}

void StepPlaces::Free() {
  if (device_ != nullptr) queue_.runtime().FreeDevice(device_);
  device_ = nullptr;
  image_.clear();
  filled_.clear();
}

Status StepPlaces::Reserve(const StepBounds& bounds) {
  if (!MustMove(bounds)) return OkStatus();
  Free();
  const uint64_t n_bytes = BytesFor(bounds);
  device_ = queue_.runtime().AllocateDevice(n_bytes);
  if (device_ == nullptr) {
    return ResourceExhausted(Str("no memory for the arguments of steps:", Kv("bytes", n_bytes)));
  }
  image_.resize(n_bytes);
  filled_.reserve(n_bytes);
  return OkStatus();
}

std::span<const std::byte> StepPlaces::Held(Place place) const {
  return std::span(image_).subspan(OffsetOf(place), held_bytes_[place]);
}

bool StepPlaces::Put(Place place, std::span<const std::byte> items) {
  const uint64_t offset = OffsetOf(place);
  const uint64_t room = place == kPages ? image_.size() - offset : RoomOf(place);
  if (items.size() > room) return false;
  if (!items.empty()) std::memcpy(image_.data() + offset, items.data(), items.size());
  held_bytes_[place] = items.size();
  return true;
}

bool StepPlaces::Set(const StepArguments& arguments, const Constants& constants) {
  fits_ = true;
  was_asked_ = false;
  position_ids_ = std::as_bytes(arguments.position_ids).data();
  if (device_ == nullptr) return false;
  const auto* const pages = reinterpret_cast<const int32_t*>(device_ + OffsetOf(kPages));
  const auto n_rows = static_cast<int64_t>(arguments.positions.size());
  const auto& sequences = arguments.sequences;
  return Put(kTokens, std::as_bytes(arguments.tokens)) &&
         Put(kPositionIds, std::as_bytes(arguments.position_ids)) &&
         Put(kPositions, std::as_bytes(arguments.positions)) &&
         Put(kPages, std::as_bytes(lists_.Pages(sequences))) &&
         Put(kSequences, std::as_bytes(lists_.Spans(sequences, pages))) &&
         Put(kRows, std::as_bytes(lists_.SequenceOfRow(sequences, n_rows))) &&
         Put(kFrequencies, constants.frequencies) && Put(kTiles, constants.tiles);
}

StepPlaces::Place StepPlaces::PlaceOf(UploadKind kind, std::span<const std::byte> items) const {
  switch (kind) {
    case UploadKind::kIds:
      return items.data() == position_ids_ ? kPositionIds : kTokens;
    case UploadKind::kPositions:
      return kPositions;
    case UploadKind::kFrequencies:
      return kFrequencies;
    case UploadKind::kPages:
      return kPages;
    case UploadKind::kSequences:
      return kSequences;
    case UploadKind::kRows:
      return kRows;
    case UploadKind::kTiles:
      return kTiles;
  }
  return kTokens;
}

const std::byte* StepPlaces::Find(UploadKind kind, std::span<const std::byte> items) {
  was_asked_ = true;
  const Place place = PlaceOf(kind, items);
  const bool is_constant = place == kFrequencies || place == kTiles;
  if (is_constant && held_bytes_[place] == 0 && !Put(place, items)) fits_ = false;
  if (!std::ranges::equal(Held(place), items)) fits_ = false;
  return device_ + OffsetOf(place);
}

StepPlaces::Constants StepPlaces::constants() const {
  const auto copy_of = [&](Place place) {
    const auto held = Held(place);
    return std::vector(held.begin(), held.end());
  };
  return {copy_of(kFrequencies), copy_of(kTiles)};
}

void StepPlaces::Fill(UploadRing& uploads) {
  const uint64_t n_bytes = OffsetOf(kPages) + held_bytes_[kPages];
  const auto wanted = std::span(image_).first(n_bytes);
  if (std::ranges::equal(wanted, filled_)) return;
  std::byte* const staged = uploads.Stage(n_bytes);
  if (staged == nullptr) return;  // the queue has failed, and says why
  filled_.assign(wanted.begin(), wanted.end());
  std::memcpy(staged, image_.data(), n_bytes);
  queue_.runtime().EnqueueCopyToDevice(staged, device_, n_bytes);
}

}  // namespace thermocline::kernels::cuda
