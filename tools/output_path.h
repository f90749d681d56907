// Where results will go, checked before the work begins whose results they are.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace thermocline::tools {

// A file that the program will write, or reads, with the flag that names it.
struct NamedPath {
  std::string flag;
  std::string path;
};

// Whether every output can be made: a regular file or none, in a folder where files can be made,
// and neither an input nor another output. Makes and removes a file in each folder.
// kInvalidArgument or kNotFound name the flag and the path.
Status CheckOutputs(const std::vector<NamedPath>& outputs, const std::vector<NamedPath>& inputs);

}  // namespace thermocline::tools
