// Sets of bytes of a file as ranges.
#pragma once

#include <vector>

#include "model/weights.h"

namespace thermocline::worker {

// The same bytes, ascending; ranges that overlap or touch are one.
std::vector<model::ByteRange> Merged(std::vector<model::ByteRange> ranges);
// Those bytes of `ranges` that are not in `others`; both ascending and apart, as Merged makes them.
std::vector<model::ByteRange> Without(const std::vector<model::ByteRange>& ranges,
                                      const std::vector<model::ByteRange>& others);

}  // namespace thermocline::worker
