#include "tests/bench/dense_product.h"

namespace thermocline::bench {

Result<std::unique_ptr<DenseProduct>> MakeDenseProduct(kernels::Device&) {
  return Unavailable("built without cuBLAS");
}

}  // namespace thermocline::bench
