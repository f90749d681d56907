#include "worker/op_dag.h"

#include <algorithm>

#include "base/check.h"

namespace thermocline::worker {
namespace {

constexpr int kNobody = -1;

// Who wrote a place last, and who has read it since.
struct Place {
  int writer = kNobody;
  std::vector<int> readers;
};

size_t CountPlaces(std::span<const OpAccess> ops) {
  int last = -1;
  for (const OpAccess& op : ops) {
    for (const int place : op.reads) last = std::max(last, place);
    for (const int place : op.writes) last = std::max(last, place);
  }
  return static_cast<size_t>(last + 1);
}

// By op, the earlier ones it waits for, each once.
std::vector<std::vector<int>> FindPrerequisites(std::span<const OpAccess> ops) {
  std::vector<Place> places(CountPlaces(ops));
  std::vector<std::vector<int>> found(ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    std::vector<int>& own = found[i];
    for (const int read : ops[i].reads) {
      Place& place = places[static_cast<size_t>(read)];
      if (place.writer != kNobody) own.push_back(place.writer);
      place.readers.push_back(static_cast<int>(i));
    }
    for (const int written : ops[i].writes) {
      Place& place = places[static_cast<size_t>(written)];
      if (place.writer != kNobody) own.push_back(place.writer);
      own.insert(own.end(), place.readers.begin(), place.readers.end());
      place = {static_cast<int>(i), {}};
    }
    std::sort(own.begin(), own.end());
    own.erase(std::unique(own.begin(), own.end()), own.end());
    std::erase(own, static_cast<int>(i));  // it reads what it writes
  }
  return found;
}

}  // namespace

OpDag::OpDag(std::span<const OpAccess> ops) {
  CHECK(ops.size() <= kMaxOps);
  const std::vector<std::vector<int>> prerequisites = FindPrerequisites(ops);
  std::vector<std::vector<uint16_t>> dependents(ops.size());
  for (size_t i = 0; i < ops.size(); ++i) {
    const auto op = static_cast<int>(i);
    units_.push_back(ops[i].unit);
    prerequisites_.push_back(static_cast<uint16_t>(prerequisites[i].size()));
    for (const int earlier : prerequisites[i]) {
      dependents[static_cast<size_t>(earlier)].push_back(static_cast<uint16_t>(i));
    }
    if (prerequisites[i].empty()) roots_[static_cast<size_t>(ops[i].unit)].Add(op);
    if (ops[i].is_ordered) ordered_.Add(op);
    if (ops[i].section == Section::kBegin) section_begins_.Add(op);
    if (ops[i].section == Section::kEnd) section_ends_.Add(op);
  }
  begins_.push_back(0);
  for (const std::vector<uint16_t>& own : dependents) {
    dependents_.insert(dependents_.end(), own.begin(), own.end());
    begins_.push_back(static_cast<uint32_t>(dependents_.size()));
  }
}

}  // namespace thermocline::worker
