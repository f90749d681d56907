// Looks at active neurons whose lists and activations lie in a device's own memory: copied to the
// host beside the step, and counted when they have come.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/buffer.h"
#include "kernels/device.h"
#include "worker/firing_counter.h"

namespace thermocline::worker {

// A look for which there is no room is not lost: the layer stays due, and the next step is looked
// at. Step thread only.
class FiringLooks {
 public:
  // The device outlives it, and the work in its queue this.
  explicit FiringLooks(kernels::Device& device) : device_(device) {}

  // Takes the host memory for looks at layers of n_neurons, so that no step does. Without any there
  // is nothing to see.
  void Reserve(int64_t n_neurons);

  // As FiringCounter::OnNeurons, once the copies have come; `counter` outlives that.
  void OnNeurons(FiringCounter* counter, int layer_in_stage, const kernels::ActiveIds& active,
                 TensorView a);

 private:
  // The memory that one look's copies go to: the list with its length before it, then a row.
  struct Look {
    Buffer memory;
    bool is_under_way = false;
    kernels::WorkMark mark = 0;
    int layer_in_stage = 0;
    int32_t capacity = 0;
    size_t n_values = 0;
  };
  void CountWhatHasCome(FiringCounter* counter);
  // With room for `n_bytes`; null when there is none.
  Look* FreeLook(uint64_t n_bytes);
  static void Count(const Look& look, FiringCounter* counter);

  kernels::Device& device_;
  std::vector<Look> looks_;
  int n_under_way_ = 0;
};

}  // namespace thermocline::worker
