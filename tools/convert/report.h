// The table of a conversion: one line per group of tensors that were treated alike.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/convert/conversion_plan.h"
#include "tools/convert/tensor_converter.h"

namespace thermocline::tools {

// Tensors of all layers with one name, source type, target type and note.
struct ReportGroup {
  std::string name;  // without "blk.N."
  DType from = DType::kF32;
  DType to = DType::kF32;
  std::string note;
  int n_tensors = 0;
  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;
  TensorErrors errors;
};

struct ReportColumns {
  bool errors = true;    // false before anything was converted
  bool explain = false;  // symmetric and asymmetric 8-bit beside the error made
};

// Thread-compatible.
class ConversionReport {
 public:
  void Add(const PlannedTensor& tensor, const TensorErrors& errors);
  // Lines with headings and totals, each ended by a newline.
  std::string Text(const ReportColumns& columns) const;

 private:
  ReportGroup& GroupOf(const PlannedTensor& tensor);

  std::vector<ReportGroup> groups_;
};

}  // namespace thermocline::tools
