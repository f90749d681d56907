// A tiny model and its sparsity file, on disk.
#pragma once

#include <memory>

#include "tests/support/sparsity_image.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"

namespace thermocline::testing {

struct SparseModel {
  std::unique_ptr<TempFile> model;
  std::unique_ptr<TempFile> sparsity;
};

// `sparsity` gets the model's fingerprint. Exact predictors: PlantExactPredictors.
SparseModel MakeSparseModel(const TinyModelSpec& model, SparsitySpec sparsity,
                            bool exact_predictors = false);

}  // namespace thermocline::testing
