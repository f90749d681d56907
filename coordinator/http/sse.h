// The framing of server-sent events as OpenAI's clients read them: unnamed events, JSON data only.
//
// Source: HTML Living Standard, 9.2 "Server-sent events".
#pragma once

#include <string>
#include <string_view>

#include "coordinator/http/message.h"

namespace thermocline::coordinator::http {

// Ends a stream that is complete; never follows an error.
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";
// A comment, which clients skip; keeps proxies and Node's fetch from giving up on a silent stream.
inline constexpr std::string_view kSseKeepAlive = ":\n\n";

// One event. `json` has no line feed, which dumped JSON never has.
std::string SseEvent(std::string_view json);
// Status 200 and the headers that keep proxies from buffering.
HttpResponse SseHead();

}  // namespace thermocline::coordinator::http
