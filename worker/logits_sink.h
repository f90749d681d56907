// Where a stage can show every row of logits: for checking a cluster against a single process.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>

#include "base/ids.h"
#include "base/status.h"

namespace thermocline::worker {

// Step thread only.
class LogitsSink {
 public:
  virtual ~LogitsSink() = default;
  // The logits after the token at `position` of a sequence; n_vocab floats.
  virtual void OnLogits(SeqId seq, int64_t position, std::span<const float> logits) = 0;
};

// Writes row `position` of `<directory>/seq-<id>.f32`, little-endian float32. Errors are logged
// once per file: a diagnostic must not end a service.
Result<std::unique_ptr<LogitsSink>> MakeLogitsDirectory(const std::string& directory);
// The same for a single file that receives every sequence's rows.
Result<std::unique_ptr<LogitsSink>> MakeLogitsFile(const std::string& path);

}  // namespace thermocline::worker
