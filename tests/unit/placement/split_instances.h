// Problems for the tests of the solver: small random ones and one of full size.
#pragma once

#include <cstdint>

#include "placement/solver/split_problem.h"

namespace thermocline::placement {

struct SmallShape {
  int n_devices = 2;
  int n_layers = 2;
  int n_blocks = 4;
  bool proportional = true;  // devices differ by one factor; else each block by its own
  bool least_parts = false;
};
// Memory enough for some split, and often not for the best without limits.
SplitProblem RandomProblem(const SmallShape& shape, uint64_t seed);

struct FullShape {
  int n_layers = 80;
  int n_neurons = 28672;
  int block_neurons = 64;
  double one_way_s = 200e-6;
  uint64_t seed = 7;
  // Mean firing frequency of the first layer and of one beyond the last: sparser in the middle of
  // a model than at its end.
  double mean_first = 0.14, mean_last = 0.26;
  double fixed_s = 0;  // of every layer
};
// Four machines of one fast and two slower GPUs (42 GB in all) and a CPU, 16 devices, and the F16
// FFNs of a 70B model, 112.7 GB, with firing frequencies drawn from a Beta distribution per layer.
SplitProblem FullSizeProblem(const FullShape& shape);

}  // namespace thermocline::placement
