#include "tests/support/test_paths.h"

namespace thermocline::testing {

std::string SourceDir() { return TC_SOURCE_DIR; }
std::string TestDataPath(const std::string& name) { return SourceDir() + "/tests/data/" + name; }

}  // namespace thermocline::testing
