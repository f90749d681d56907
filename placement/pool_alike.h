// Workers on equal machines, and the links between them, made equal.
#pragma once

#include "placement/profile.h"

namespace thermocline::placement {

// Two measurements of one machine differ by 10 to 20 %: neighbours, pages that lie differently. A
// plan that took the difference for a fact would follow noise, and a search could not use that
// workers are exchangeable. So workers of the same cores, threads, NUMA nodes, huge pages and
// kinds of figures whose bandwidths differ by no more than kAlikeRatio form a group, and each
// measured figure becomes the group's geometric mean, a better estimate than any single one.
// Figures that somebody gave stay. Unlike rounding to fixed steps this has no edges that two equal
// machines may fall on either side of, and adds no error to what is predicted from the figures.
//
// A machine that is slower by more than that keeps its own figures. Groups are formed from the
// fastest down, so that the order of the workers does not matter.
void PoolAlikeWorkers(ClusterProfile* cluster);

// The same for what joins them: links of one transport between workers of the same two kinds (equal
// in all figures, as PoolAlikeWorkers leaves them) become equal where every figure was measured.
// Within a host all do, where what differs is who else ran; between hosts those whose latencies
// and bandwidths differ by no more than kAlikeRatio from the quickest's.
void PoolAlikeLinks(ClusterProfile* cluster);

inline constexpr double kAlikeRatio = 1.25;

}  // namespace thermocline::placement
