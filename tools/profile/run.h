// The work of `thermocline profile`: what is measured, in which order, and where it goes.
#pragma once

#include "base/status.h"
#include "tools/profile/flags.h"

namespace thermocline::tools {

// Tables go to stdout, progress to stderr. kInvalidArgument and kNotFound for bad input.
Status RunProfile(const ProfileFlags& flags);

}  // namespace thermocline::tools
