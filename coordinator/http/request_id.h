// Names for requests and responses.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace thermocline::coordinator::http {

// Longest request id taken over from a client.
inline constexpr size_t kMaxRequestIdBytes = 128;

// From the system's entropy; not for secrets.
uint64_t RandomU64();
// `prefix` and 24 random hexadecimal digits.
std::string MakeId(std::string_view prefix);
// The client's own id if it is short, printable ASCII without spaces; else a new one.
std::string RequestIdOf(std::string_view from_client);

}  // namespace thermocline::coordinator::http
