#include "coordinator/http/sse.h"

namespace thermocline::coordinator::http {

std::string SseEvent(std::string_view json) {
  std::string event = "data: ";
  event.append(json).append("\n\n");
  return event;
}

HttpResponse SseHead() {
  HttpResponse head;
  head.content_type = "text/event-stream";
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  return head;
}

}  // namespace thermocline::coordinator::http
