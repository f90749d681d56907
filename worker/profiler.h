// What this worker measures about itself before it says hello.
#pragma once

#include <cstdint>

namespace thermocline::worker {

// Sustained read bandwidth of `n_threads` threads (at most 16) streaming 32 to 64 MiB together,
// rounded; takes about 200 ms. 0 when there is no memory for it.
double MeasureReadBandwidth(int n_threads);

// The nearest power of 2^(1/4), which are 19 % apart. Workers of one host measure while others do,
// and none does for long: equal machines differ by 10 to 20 % from one start to the next, and
// layers should follow machines, not noise. Layers are counted in ones, so finer steps would seldom
// move a whole one.
double RoundBandwidth(double bytes_per_s);

}  // namespace thermocline::worker
