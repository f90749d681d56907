// Reads bytes as a cluster profile edited by hand; what is accepted must survive being written and
// read again, to the digits that are written.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "placement/cluster_yaml.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thermocline;  // NOLINT: a test program
  const auto cluster = placement::ClusterFromYaml({reinterpret_cast<const char*>(data), size});
  if (!cluster.ok()) return 0;
  const std::string text = placement::ClusterToYaml(*cluster);
  const auto again = placement::ClusterFromYaml(text);
  CHECK(again.ok());
  CHECK(again->workers.size() == cluster->workers.size());
  CHECK(again->links.size() == cluster->links.size());
  return 0;
}
