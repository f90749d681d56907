// What this worker measures about itself before it says hello.
#pragma once

#include <cstdint>

namespace thermocline::worker {

// Sustained read bandwidth of `n_threads` threads streaming a region larger than their L2 caches;
// takes about 100 ms.
double MeasureReadBandwidth(int n_threads);

}  // namespace thermocline::worker
