// A cluster profile that somebody wrote down, for the workers that have really joined.
#pragma once

#include <set>
#include <string>

#include "base/status.h"
#include "placement/pair_transport.h"
#include "placement/profile.h"

namespace thermocline::placement {

// What a file says of those who joined.
struct FittedCluster {
  ClusterProfile cluster;      // all who joined
  std::set<WorkerId> unknown;  // of whom it says nothing: they are as they joined, without links
  // For people, in one line: whom it does not know, and who of it is not here; "": it fits.
  std::string note;
};

// `given` with the ids and hosts of `joined`. Workers are matched by id where the hosts are the
// same or not given, the others host by host in the order of their ids. Who is left over in
// `given`, with its links, is ignored. A number that `given` lacks is that of `joined`, except that
// all rates of a worker come from one of them: from `given` if it has any that are more than
// assumed; then those of rows in 8 bits that `joined` has and it lacks beside its rates of other
// types are added. Memory is the smaller of both, since nobody can use more than it offers. Links
// that `given` lacks stay out. kInvalidArgument: it has none of those who joined, or GPUs that are
// not there, or a link's numbers are of another transport than `transport` says of those two.
Result<FittedCluster> FitCluster(const ClusterProfile& given, const ClusterProfile& joined,
                                 const PairTransport& transport);

// Workers of whom nobody says how fast they read get what the cost model takes for that, as
// assumed, so that whoever sees the profile sees it too.
void AssumeRates(ClusterProfile* cluster);

}  // namespace thermocline::placement
