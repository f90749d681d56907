// How a plan's numbers are told: in its reasons, and in whatever is said of it.
#pragma once

#include <string>

namespace thermocline::placement {

// "1.25 ms"; below 0.1 ms to a tenth of a microsecond: "0.0536 ms".
std::string MillisecondsText(double seconds);
// Of layers [begin, end): "0-11", "3".
std::string LayersText(int begin, int end);

}  // namespace thermocline::placement
