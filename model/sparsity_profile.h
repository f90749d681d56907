// What `thermocline profile` learned about a model's neurons: the file M.profile.gguf.
//
// Format: docs/profile-format.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/neuron_activity.h"
#include "model/range_reader.h"

namespace thermocline::model {

// Perplexity of one FFN mode on held-out text.
struct GuardResult {
  std::string mode;  // "dense", "exact" ...
  double perplexity = 0;
  double loss = 0;  // perplexity over that of dense, minus 1
};

// The perplexities measured together, dense first. Empty: none was.
struct GuardRecord {
  std::vector<GuardResult> results;
  uint64_t n_tokens = 0;    // scored per mode
  double allowed_loss = 0;  // what the user accepts
};

struct SparsityProfile {
  std::string fingerprint;  // of the model, see model/fingerprint.h
  std::string model_name;
  std::string source;                 // for people: the text, or the imported counts
  uint64_t n_tokens = 0;              // that the counts were taken over
  bool n_tokens_is_guess = false;     // imported counts whose total nobody gave
  std::vector<LayerActivity> layers;  // all with the same n_ff
  GuardRecord guard;

  int64_t n_ff() const {
    return layers.empty() ? 0 : static_cast<int64_t>(layers.front().fired.size());
  }
};

// Writes the file, whole or not at all. The codes of GgufWriter; kInvalidArgument for a profile
// without layers or whose layers differ in size.
Status WriteSparsityProfile(const SparsityProfile& profile, const std::string& path);

// kInvalidArgument: another kind of file or version, a missing key or tensor, one of the wrong
// length, a count above the number of tokens; the codes of GgufFile::Parse.
Result<SparsityProfile> ReadSparsityProfile(const RangeReader& reader);

// kInvalidArgument names both fingerprints when the profile is of another model.
Status CheckProfileOf(const SparsityProfile& profile, std::string_view fingerprint);

}  // namespace thermocline::model
