// The page at GET /: the cluster at a glance and a small chat, in one file without outside assets.
#pragma once

#include "coordinator/http/message.h"

namespace thermocline::coordinator::http {

// The page with a content security policy that lets it talk to this server only.
HttpResponse StatusPage();

}  // namespace thermocline::coordinator::http
