// Highway's list of what this machine runs, by the names people know.
#include <hwy/highway.h>
#include <hwy/targets.h>

#include "base/str.h"
#include "kernels/cpu/ops.h"
#include "kernels/device.h"

namespace thermocline::kernels {
namespace {

struct InstructionSet {
  std::string_view name;
  int64_t target;
};

// Best first.
constexpr InstructionSet kSets[] = {
    {"avx512-vnni", HWY_AVX3_DL}, {"avx512", HWY_AVX3}, {"avx2", HWY_AVX2},
    {"sse4", HWY_SSE4},           {"neon", HWY_NEON},
};
// What is left when no vector set is: not one of Highway's targets that a machine may lack.
constexpr std::string_view kScalar = "scalar";

bool IsUsable(int64_t target) { return (hwy::SupportedTargets() & HWY_TARGETS & target) != 0; }

}  // namespace

std::string cpu::InstructionSetName() {
  for (const InstructionSet& set : kSets) {
    if (IsUsable(set.target)) return std::string(set.name);
  }
  return std::string(kScalar);
}

std::vector<std::string> InstructionSets() {
  std::vector<std::string> names;
  for (const InstructionSet& set : kSets) {
    if (IsUsable(set.target)) names.emplace_back(set.name);
  }
  names.emplace_back(kScalar);
  return names;
}

Status UseInstructionSet(std::string_view name) {
  hwy::DisableTargets(0);  // takes back what an earlier call forbade
  hwy::GetChosenTarget().DeInit();
  int64_t better = 0;
  bool is_found = name == "auto";
  for (const InstructionSet& set : kSets) {
    if (is_found) break;
    is_found = set.name == name && IsUsable(set.target);
    if (!is_found) better |= set.target;
  }
  if (!is_found && name != kScalar) {
    std::string usable = "auto";
    for (const std::string& one : InstructionSets()) usable += " " + one;
    return InvalidArgument(Str("this machine does not have the instruction set \"", Printable(name),
                               "\"; it has ", usable));
  }
  if (better != 0) hwy::DisableTargets(better);
  return OkStatus();
}

}  // namespace thermocline::kernels
