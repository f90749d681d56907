#include "tests/support/sparse_model.h"

#include <utility>

#include "model/fingerprint.h"
#include "model/gguf.h"

namespace thermocline::testing {

SparseModel MakeSparseModel(const TinyModelSpec& model, SparsitySpec sparsity,
                            bool exact_predictors) {
  const GgufImage image = TinyModelImage(model);
  const auto bytes = image.Bytes();
  SparseModel files;
  files.model = std::make_unique<TempFile>(bytes);
  const auto reader = model::ReadFromMemory(bytes, "model");
  const auto file = model::GgufFile::Parse(*reader);
  const auto config = model::ModelConfig::FromGguf(*file);
  sparsity.fingerprint = *model::FingerprintOf(*reader, *file);
  GgufImage predictors = SparsityImage(sparsity, *config);
  if (exact_predictors) PlantExactPredictors(image, *config, &predictors);
  files.sparsity = std::make_unique<TempFile>(predictors.Bytes());
  return files;
}

}  // namespace thermocline::testing
