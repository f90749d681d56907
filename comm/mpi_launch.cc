#include "comm/mpi_launch.h"

#include <array>
#include <charconv>

namespace thermocline::comm {
namespace {

struct LauncherNames {
  const char* rank;
  const char* size;
};

// srun with PMIx sets PMIX_RANK and tells the size in SLURM_NTASKS. Open MPI's mpirun sets
// PMIX_RANK too, but its own pair comes first.
constexpr std::array<LauncherNames, 3> kLaunchers = {{
    {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_RANK", "PMI_SIZE"},
    {"PMIX_RANK", "SLURM_NTASKS"},
}};

std::optional<int> ParseNonNegative(const std::optional<std::string>& text) {
  if (!text) return std::nullopt;
  int value = -1;
  const char* end = text->data() + text->size();
  const auto parsed = std::from_chars(text->data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || value < 0) return std::nullopt;
  return value;
}

}  // namespace

std::optional<LaunchInfo> DetectMpiLaunch(const EnvironmentLookup& lookup) {
  for (const LauncherNames& names : kLaunchers) {
    const auto rank = ParseNonNegative(lookup(names.rank));
    const auto size = ParseNonNegative(lookup(names.size));
    if (rank && size && *rank < *size) return LaunchInfo{*rank, *size};
  }
  return std::nullopt;
}

}  // namespace thermocline::comm
