// How reasons of a plan tell their numbers.
#pragma once

#include <string>

namespace thermocline::placement {

// "1.25 ms"; below 0.1 ms to a tenth of a microsecond: "0.0536 ms".
std::string MillisecondsText(double seconds);

}  // namespace thermocline::placement
