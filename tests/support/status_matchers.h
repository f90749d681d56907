// EXPECT_THAT(status, IsOk()) prints the status when it is not.
#pragma once

#include <gmock/gmock.h>

#include "base/status.h"

namespace thermocline::testing {

MATCHER(IsOk, "is ok") { return arg.ok(); }

}  // namespace thermocline::testing
