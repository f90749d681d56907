// A cluster profile that somebody wrote down, for the workers that have really joined.
#pragma once

#include "base/status.h"
#include "placement/pair_transport.h"
#include "placement/profile.h"

namespace thermocline::placement {

// `given` with the ids and hosts of `joined`. Workers are matched by id where the hosts are the
// same or not given, else host by host in the order of their ids. A number that `given` lacks is
// that of `joined`, except that all rates of a worker come from one of them: from `given` if it has
// any that are more than assumed. Memory is the smaller of both, since nobody can use more than it
// offers. Links that `given` lacks stay out. kInvalidArgument: it is of other workers or hosts, has
// GPUs that are not there, or a link's numbers are of another transport than `transport` says of
// those two who joined.
Result<ClusterProfile> FitCluster(const ClusterProfile& given, const ClusterProfile& joined,
                                  const PairTransport& transport);

// Workers of whom nobody says how fast they read get what the cost model takes for that, as
// assumed, so that whoever sees the profile sees it too.
void AssumeRates(ClusterProfile* cluster);

}  // namespace thermocline::placement
