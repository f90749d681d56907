#include "worker/ffn_chooser.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "base/check.h"

namespace thermocline::worker {
namespace {

constexpr int kNoCandidate = -1;

}  // namespace

FfnChooser::FfnChooser(std::span<const int> n_candidates) : cells_(n_candidates.size() * kBuckets) {
  for (size_t i = 0; i < cells_.size(); ++i) {
    cells_[i].candidates.resize(static_cast<size_t>(n_candidates[i / kBuckets]));
  }
}

int FfnChooser::BucketOf(int64_t n_tokens) {
  DCHECK(n_tokens > 0);
  return std::min<int>(std::bit_width(static_cast<uint64_t>(n_tokens - 1)), kBuckets - 1);
}

double FfnChooser::Candidate::Typical() const {
  static_assert(kSamples == 8, "the quartile is the second of 8 and the first of up to 4");
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const int n = std::min(n_recorded, kSamples);
  double least = kInfinity, second = kInfinity;
  for (int i = 0; i < n; ++i) {
    const double time = ns_per_token[static_cast<size_t>(i)];
    second = std::min(second, std::max(least, time));
    least = std::min(least, time);
  }
  return n > kSamples / 2 ? second : least;
}

size_t FfnChooser::IndexOf(int layer, int64_t n_tokens) {
  return static_cast<size_t>(layer) * kBuckets + static_cast<size_t>(BucketOf(n_tokens));
}

int FfnChooser::Fastest(const Cell& cell) {
  const auto faster = [](const Candidate& a, const Candidate& b) {
    return a.Typical() < b.Typical();
  };
  const auto found = std::min_element(cell.candidates.begin(), cell.candidates.end(), faster);
  return static_cast<int>(found - cell.candidates.begin());
}

// The candidate with the fewest times that is worth more of them.
int FfnChooser::ToTry(const Cell& cell) {
  const double limit = kHopeless * cell.candidates[static_cast<size_t>(Fastest(cell))].Typical();
  int least = kNoCandidate;
  int least_recorded = kTrials;
  for (size_t i = 0; i < cell.candidates.size(); ++i) {
    const Candidate& candidate = cell.candidates[i];
    const bool hopeless = candidate.n_recorded > 0 && candidate.Typical() > limit;
    if (hopeless || candidate.n_recorded >= least_recorded) continue;
    least = static_cast<int>(i);
    least_recorded = candidate.n_recorded;
  }
  return least;
}

int FfnChooser::Choose(int layer, int64_t n_tokens) {
  Cell& cell = At(layer, n_tokens);
  ++cell.n_batches;
  const int n = static_cast<int>(cell.candidates.size());
  if (n == 1) return 0;
  const int to_try = ToTry(cell);
  if (to_try != kNoCandidate) return to_try;
  const int fastest = Fastest(cell);
  if (--cell.until_recheck > 0) return fastest;
  cell.until_recheck = kRecheckEvery;
  cell.recheck_next = (cell.recheck_next + 1) % n;
  if (cell.recheck_next == fastest) cell.recheck_next = (cell.recheck_next + 1) % n;
  return cell.recheck_next;
}

bool FfnChooser::IsJudging(int layer, int64_t n_tokens, int candidate) const {
  const Cell& cell = cells_[IndexOf(layer, n_tokens)];
  if (cell.candidates.size() < 2) return false;
  return candidate != Fastest(cell) ||
         cell.candidates[static_cast<size_t>(candidate)].n_recorded < kTrials ||
         cell.n_batches % kTimeEvery == 0;
}

void FfnChooser::Record(int layer, int64_t n_tokens, int candidate, Duration took) {
  Candidate& measured = At(layer, n_tokens).candidates[static_cast<size_t>(candidate)];
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(took).count();
  measured.ns_per_token[static_cast<size_t>(measured.n_recorded % kSamples)] =
      static_cast<double>(ns) / static_cast<double>(n_tokens);
  // Beyond kSamples only the place in the ring matters; it must not overflow.
  measured.n_recorded = measured.n_recorded + 1 < 2 * kSamples ? measured.n_recorded + 1 : kSamples;
}

int FfnChooser::Favourite(int layer) const {
  const auto begin = cells_.begin() + static_cast<std::ptrdiff_t>(layer) * kBuckets;
  const auto busier = [](const Cell& a, const Cell& b) { return a.n_batches < b.n_batches; };
  return Fastest(*std::max_element(begin, begin + kBuckets, busier));
}

}  // namespace thermocline::worker
