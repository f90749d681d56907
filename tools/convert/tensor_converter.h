// Converts one tensor after the other, measuring what each conversion loses.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/thread_pool.h"
#include "model/gguf_writer.h"
#include "tools/convert/conversion_plan.h"
#include "tools/progress_bar.h"

namespace thermocline::tools {

// Of a set of weights w and the weights v that a reader of the result gets.
struct RoundingError {
  double error_squares = 0;  // sum of (v - w)^2
  double weight_squares = 0;
  double max_error = 0;

  void Add(const RoundingError& other);
  // sqrt(sum (v - w)^2 / sum w^2); 0 for zeros.
  double relative_rms() const;
};

struct TensorErrors {
  RoundingError stored;      // as written
  RoundingError symmetric;   // had it been Q8_0: int8 with a scale per 32 weights
  RoundingError asymmetric;  // had it been uint8 with a scale and a zero point per 32 weights

  void Add(const TensorErrors& other);
};

// Borrows the writer, pool and bar of the run. One thread calls it; the work is shared by the pool.
class TensorConverter {
 public:
  struct Options {
    bool compare_8_bits = false;  // fill TensorErrors::symmetric and ::asymmetric
  };
  TensorConverter(model::GgufWriter& writer, ThreadPool& pool, ProgressBar& bar, Options options)
      : writer_(writer), pool_(pool), bar_(bar), options_(options) {}

  // Writes tensor `index` of the writer. kInvalidArgument names the tensor, row and column of a
  // value that is infinite or NaN, or too large for the type; kAborted by CheckInterrupted; the
  // codes of GgufWriter::Put.
  Result<TensorErrors> Convert(const PlannedTensor& tensor, size_t index);

 private:
  Result<TensorErrors> ConvertRows(const PlannedTensor& tensor, size_t index, int64_t first,
                                   int64_t n) const;

  model::GgufWriter& writer_;
  ThreadPool& pool_;
  ProgressBar& bar_;
  const Options options_;
};

}  // namespace thermocline::tools
