// Texts that somebody names by their path: plans, clusters, templates, keys.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace thermocline {

// The whole of a regular file, or of what comes through a pipe, of which no more than max_bytes + 1
// bytes are read. Messages name the path. kNotFound: no such file, or it may not be read;
// kInvalidArgument: a folder, a device or a socket, or longer than that; kUnavailable: reading
// failed.
Result<std::string> ReadTextFile(const std::string& path, uint64_t max_bytes);

}  // namespace thermocline
