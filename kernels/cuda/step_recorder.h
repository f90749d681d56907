// Records steps of the CUDA backend and replays them.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/step_places.h"
#include "kernels/cuda/upload_ring.h"
#include "kernels/cuda/work_queue.h"
#include "kernels/step_recorder.h"
#include "kernels/traffic.h"

namespace thermocline::kernels::cuda {

// Owned by the ops, whose ring and traffic it shares: they ask it for places while it records.
// Thread-compatible.
class CudaStepRecorder final : public StepRecorder {
 public:
  CudaStepRecorder(WorkQueue& queue, UploadRing& uploads, TrafficCounter& traffic)
      : queue_(queue), uploads_(uploads), traffic_(traffic), places_(queue) {}
  ~CudaStepRecorder() override;

  // For steps within these bounds. Drops all recordings where their arguments must move. Errors as
  // StepPlaces::Reserve.
  Status Reserve(const StepBounds& bounds);

  bool is_recording() const { return is_recording_; }
  // Of the longest sequence that the step being recorded is to take.
  int64_t n_positions() const { return n_positions_; }
  const std::byte* Find(UploadKind kind, std::span<const std::byte> items) {
    return places_.Find(kind, items);
  }

  Status Begin(const StepArguments& arguments, int64_t n_positions) override;
  Result<Recording> End(int64_t max_launches) override;
  void Replay(uint32_t id, const StepArguments& arguments) override;
  void Drop(uint32_t id) override;

 private:
  struct Kept {
    uint32_t id = 0;  // the runtime's number
    bool takes_arguments = false;
    StepPlaces::Constants constants;
    Traffic traffic;                     // of a replay, but for keys and values
    uint64_t kv_bytes_per_position = 0;  // of all sequences, in all layers
  };

  WorkQueue& queue_;
  UploadRing& uploads_;
  TrafficCounter& traffic_;
  StepPlaces places_;
  std::vector<Kept> kept_;
  bool is_recording_ = false;
  int64_t n_positions_ = 0;
  // Of the step being recorded: what had been read before it, and the positions its sequences have.
  Traffic traffic_before_;
  uint64_t positions_read_ = 0;
};

}  // namespace thermocline::kernels::cuda
