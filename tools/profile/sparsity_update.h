// The sparsity file of one run: what an earlier run left in it and this one does not make anew,
// what this one makes, and the losses measured.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "model/config.h"
#include "model/sparsity.h"
#include "model/sparsity_profile.h"
#include "tools/profile/sparsity_file.h"

namespace thermocline::tools {

// What a run makes; the rest of an existing file is kept.
struct SparsityParts {
  bool predictors = false;
  bool thresholds = false;
};

// Owned by the run; one thread.
class SparsityUpdate {
 public:
  // Of the file at `path`, which need not exist; with `replace` nothing of it is kept. Reads its
  // header only. The codes of OpenSparsityFile, with the cure.
  static Result<SparsityUpdate> Open(const std::string& path, const model::ModelConfig& config,
                                     const std::string& fingerprint, SparsityParts made,
                                     bool replace);

  // "predictors and thresholds", "measured loss": what is kept; "" when nothing is.
  const std::string& kept_text() const { return kept_text_; }
  // One per layer, made or kept; empty: none.
  const std::vector<float>& thresholds() const { return content_.activation_thresholds; }
  // What the modes of the kept parts may lose.
  std::optional<float> allowed_loss() const { return content_.guard.allowed; }
  const std::string& path() const { return path_; }

  void SetSource(std::string source) { content_.source = std::move(source); }
  void SetPredictors(std::vector<StoredPredictor> made) { content_.predictors = std::move(made); }
  void SetThresholds(std::vector<float> made) { content_.activation_thresholds = std::move(made); }
  // Replaces what is known of the modes that `measured` has.
  void RecordLosses(const model::GuardRecord& measured);

  // The codes of WriteSparsityFile.
  Status Write() const { return WriteSparsityFile(content_, path_); }

 private:
  explicit SparsityUpdate(std::string path) : path_(std::move(path)) {}
  void Keep(model::SparsityFile file, SparsityParts made);

  std::string path_;
  std::unique_ptr<const model::SparsityFile> file_;  // that content_ borrows from
  std::string kept_text_;
  SparsityContent content_;
};

}  // namespace thermocline::tools
