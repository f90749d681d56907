// Products of weight rows with tokens: what MatMul and Neurons share.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor_view.h"

namespace thermocline::kernels::reference {

// The rows of x as products with w see them: rounded to 8 bits per block when w is packed
// and has integers for quants.
std::vector<std::vector<double>> TokenValues(const TensorView& w, const TensorView& x);

// Row i of w with every token.
std::vector<double> RowDots(const TensorView& w, int64_t i,
                            const std::vector<std::vector<double>>& tokens);

}  // namespace thermocline::kernels::reference
