#include "base/cpu_list.h"

#include <sched.h>

#include <algorithm>
#include <charconv>

#include "base/str.h"

namespace thermocline {
namespace {

// CPUs [first, last].
struct CpuRange {
  int first = 0;
  int last = 0;
};

// "3" or "0-3"; false when it is neither.
bool ParseRange(std::string_view text, CpuRange* range) {
  const char* const end = text.data() + text.size();
  auto parsed = std::from_chars(text.data(), end, range->first);
  if (parsed.ec != std::errc() || range->first < 0) return false;
  range->last = range->first;
  if (parsed.ptr == end) return true;
  if (*parsed.ptr != '-') return false;
  parsed = std::from_chars(parsed.ptr + 1, end, range->last);
  return parsed.ec == std::errc() && parsed.ptr == end && range->first <= range->last;
}

bool Has(std::span<const int> cpus, int cpu) {
  return std::find(cpus.begin(), cpus.end(), cpu) != cpus.end();
}

Status AddRange(const CpuRange& range, std::span<const int> allowed, std::vector<int>* cpus) {
  // A range ends at the first CPU that is not there, so its length needs no limit of its own.
  for (int cpu = range.first; cpu <= range.last; ++cpu) {
    if (!Has(allowed, cpu)) {
      return InvalidArgument(Str("CPU is not there, or not for this process:", Kv("cpu", cpu),
                                 Kv("allowed", CpuListText(allowed))));
    }
    if (Has(*cpus, cpu)) return InvalidArgument(Str("CPU named twice:", Kv("cpu", cpu)));
    cpus->push_back(cpu);
  }
  return OkStatus();
}

}  // namespace

Result<std::vector<int>> ParseCpuList(std::string_view text) {
  std::vector<int> cpus;
  if (text.empty()) return cpus;
  const std::vector<int> allowed = AllowedCpus();
  while (true) {
    const size_t comma = std::min(text.find(','), text.size());
    CpuRange range;
    if (!ParseRange(text.substr(0, comma), &range)) {
      return InvalidArgument(
          Str("not a list of CPUs like 0-3,8: \"", Printable(text.substr(0, comma), 20), "\""));
    }
    TC_RETURN_IF_ERROR(AddRange(range, allowed, &cpus));
    if (comma == text.size()) return cpus;
    text.remove_prefix(comma + 1);
  }
}

std::string CpuListText(std::span<const int> cpus) {
  std::string text;
  for (size_t i = 0; i < cpus.size();) {
    size_t end = i + 1;
    while (end < cpus.size() && cpus[end] == cpus[end - 1] + 1) ++end;
    text += Str(text.empty() ? "" : ",", cpus[i]);
    if (end - i > 1) text += Str("-", cpus[end - 1]);
    i = end;
  }
  return text;
}

std::vector<int> AllowedCpus() {
  cpu_set_t set;
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &set)) cpus.push_back(cpu);
  }
  return cpus;
}

Status RunOn(std::span<const int> cpus) {
  if (cpus.empty()) return OkStatus();
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) {
    if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_SET(static_cast<size_t>(cpu), &set);
  }
  if (sched_setaffinity(0, sizeof(set), &set) == 0) return OkStatus();
  return InvalidArgument(Str("cannot run on these CPUs:", Kv("cpus", CpuListText(cpus))));
}

Result<int> ThreadsOn(std::span<const int> cpus, int asked) {
  const auto n_cpus = static_cast<int>(cpus.size());
  if (asked > 0 && n_cpus > 0 && asked > n_cpus) {
    return InvalidArgument(Str("more threads than CPUs to pin them to:", Kv("threads", asked),
                               Kv("cpus", CpuListText(cpus))));
  }
  if (asked > 0) return asked;
  return n_cpus > 0 ? n_cpus : std::max(1, static_cast<int>(AllowedCpus().size()));
}

}  // namespace thermocline
