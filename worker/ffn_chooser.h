// Which of a layer's programs to run for a batch: the one that was fastest when measured.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"

namespace thermocline::worker {

// Keeps the times of each candidate per layer and size of batch. Reads no clock and draws no random
// number: equal calls give equal choices. Calls allocate nothing. Step thread only.
//
// A candidate counts as its lower quartile over the latest times: other processes only ever
// lengthen a time, often most of them, while a least time alone would favour modes that a token of
// low density makes fast.
class FfnChooser {
 public:
  // `n_candidates[layer]` is 1 or more.
  explicit FfnChooser(std::span<const int> n_candidates);

  // The candidate to run next for `n_tokens` rows. While one has fewer than kTrials times it is
  // tried, in turn, unless it took more than kHopeless times as long as another; then the fastest
  // runs, and every kRecheckEvery batches one of the others again, in turn.
  int Choose(int layer, int64_t n_tokens);
  // Whether the time of what Choose has returned is worth the trouble where taking it costs some:
  // of candidates on trial or checked again, and now and then of the fastest.
  bool IsJudging(int layer, int64_t n_tokens, int candidate) const;
  // What the chosen candidate took.
  void Record(int layer, int64_t n_tokens, int candidate, Duration took);

  // The fastest so far of the size of batch that the layer ran most often.
  int Favourite(int layer) const;

  // Times taken of each candidate before one is preferred.
  static constexpr int kTrials = 3;
  // Times kept: the candidate that runs is judged anew within as many batches.
  static constexpr int kSamples = 8;
  static constexpr double kHopeless = 2.0;
  // A wrong candidate of at most twice the time costs 1/256 in all, and densities drift slowly.
  static constexpr int kRecheckEvery = 256;
  // Of the batches that the fastest candidate runs one in so many is timed where that costs
  // something: two waits for a device, about 20 us, in as many steps of a layer, are below 1 % of
  // their time.
  static constexpr int kTimeEvery = 32;
  // Sizes 1, 2, 3-4, 5-8, ...: within one the union of active neurons changes little.
  static constexpr int kBuckets = 24;
  static int BucketOf(int64_t n_tokens);

 private:
  struct Candidate {
    std::array<double, kSamples> ns_per_token{};  // the latest ones
    int n_recorded = 0;
    double Typical() const;  // the lower quartile; infinite before the first
  };
  struct Cell {
    int64_t n_batches = 0;
    int until_recheck = kRecheckEvery;
    int recheck_next = 0;
    std::vector<Candidate> candidates;
  };
  Cell& At(int layer, int64_t n_tokens) { return cells_[IndexOf(layer, n_tokens)]; }
  static size_t IndexOf(int layer, int64_t n_tokens);
  static int Fastest(const Cell& cell);
  static int ToTry(const Cell& cell);

  std::vector<Cell> cells_;  // [layer][bucket]
};

}  // namespace thermocline::worker
