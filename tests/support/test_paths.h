// Where tests find files of the repository. One translation unit knows the paths, so that compiled
// tests are the same wherever the repository lies.
#pragma once

#include <string>

namespace thermocline::testing {

std::string SourceDir();                            // the repository
std::string TestDataPath(const std::string& name);  // a file or folder of tests/data

}  // namespace thermocline::testing
