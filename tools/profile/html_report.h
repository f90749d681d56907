// A profile as one self-contained HTML page: no scripts, no fonts and no pictures from elsewhere.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "model/sparsity_profile.h"
#include "tools/profile/train_predictors.h"

namespace thermocline::tools {

// `predictors` may be empty.
std::string HtmlReport(const model::SparsityProfile& profile,
                       const std::vector<PredictorReport>& predictors);

// kUnavailable when the file cannot be written.
Status WriteTextFile(const std::string& path, const std::string& text);

}  // namespace thermocline::tools
