// Where the arguments of recorded steps lie in the device's memory: in fixed places, which one copy
// fills before each replay.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/sequence_lists.h"
#include "kernels/cuda/upload_ring.h"
#include "kernels/cuda/work_queue.h"
#include "kernels/device.h"
#include "kernels/step_recorder.h"

namespace thermocline::kernels::cuda {

// One region for all recordings: their replays follow each other in the device's queue, as do the
// copies between them. Owned by the recorder. Thread-compatible.
class StepPlaces {
 public:
  // Lists that ops make of what is no argument: the same in each replay of a recording.
  struct Constants {
    std::vector<std::byte> frequencies, tiles;
  };

  explicit StepPlaces(WorkQueue& queue) : queue_(queue) {}
  ~StepPlaces() { Free(); }
  StepPlaces(const StepPlaces&) = delete;
  StepPlaces& operator=(const StepPlaces&) = delete;

  // What a copy takes at most, for steps within these bounds.
  static uint64_t BytesFor(const StepBounds& bounds);
  // Whether the region must move for these bounds.
  bool MustMove(const StepBounds& bounds) const { return BytesFor(bounds) != image_.size(); }
  // Takes the memory. kResourceExhausted without any; then no arguments find room.
  Status Reserve(const StepBounds& bounds);

  // Takes the arguments of a step, to be filled in; false when they find no room.
  bool Set(const StepArguments& arguments, const Constants& constants);
  // Where items that an op takes from the host will lie. The first of what is no argument become
  // constants; all others must be among the arguments, or fits() is false from then on.
  const std::byte* Find(UploadKind kind, std::span<const std::byte> items);
  // Whether Find has found all since Set, and whether it was asked for any.
  bool fits() const { return fits_; }
  bool was_asked() const { return was_asked_; }
  // Those since Set.
  Constants constants() const;
  // Enqueues the copy of what was Set, through the ring, unless it is there from before.
  void Fill(UploadRing& uploads);

 private:
  // In this order, of which the last is the only one whose room depends on the bounds.
  enum Place : uint8_t {
    kTokens,
    kPositionIds,
    kPositions,
    kSequences,
    kRows,
    kFrequencies,
    kTiles,
    kPages
  };
  static constexpr size_t kPlaces = kPages + 1;
  static uint64_t RoomOf(Place place);
  static uint64_t OffsetOf(Place place);

  void Free();
  Place PlaceOf(UploadKind kind, std::span<const std::byte> items) const;
  bool Put(Place place, std::span<const std::byte> items);
  std::span<const std::byte> Held(Place place) const;

  WorkQueue& queue_;
  std::byte* device_ = nullptr;
  std::vector<std::byte> image_;  // as it is to be there
  std::array<uint64_t, kPlaces> held_bytes_ = {};
  const std::byte* position_ids_ = nullptr;  // the arguments' own
  bool fits_ = true;
  bool was_asked_ = false;
  std::vector<std::byte> filled_;  // what the last copy was of
  SequenceLists lists_;
};

}  // namespace thermocline::kernels::cuda
