// How long the system lets a thread run, and so how long others wait for it.
#pragma once

namespace thermocline {

// Asks that the calling thread run in short slices, more often instead. Its share of the processor
// stays the same; but beside somebody else's busy process it is let in sooner, where threads that
// share a loop would otherwise all wait through that one's slice of milliseconds for one of them.
// Inherited by threads and processes started from it. A request: systems that cannot (Linux before
// 6.12, real-time policies) ignore it.
void RequestShortSlices();

// Asks for the system's usual slices again.
void RequestUsualSlices();

}  // namespace thermocline
