// Named ranges of the host's calls, for NVIDIA's profilers; nothing where their header is missing.
#pragma once

namespace thermocline::kernels::cuda {

// Ranges nest. Thread-safe: each thread has its own.
void PushProfilerRange(const char* name);
void PopProfilerRange();

}  // namespace thermocline::kernels::cuda
