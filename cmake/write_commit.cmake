# Writes OUTPUT, a header with the commit of SOURCE_DIR, when it is not the one already there:
#   cmake -DSOURCE_DIR=... -DOUTPUT=... -P write_commit.cmake
execute_process(COMMAND git describe --always --dirty --exclude "*"
                WORKING_DIRECTORY ${SOURCE_DIR}
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
if(NOT commit)
  set(commit "commit unknown")
endif()
file(CONFIGURE OUTPUT ${OUTPUT} @ONLY CONTENT [[
// The commit of this build, written by cmake/write_commit.cmake.
#pragma once

#include <string_view>

namespace thermocline::tools {

inline constexpr std::string_view kCommit = "@commit@";

}  // namespace thermocline::tools
]])
