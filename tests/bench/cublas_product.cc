#include <cublas_v2.h>

#include "base/str.h"
#include "tests/bench/dense_product.h"

namespace thermocline::bench {
namespace {

Status ToStatus(cublasStatus_t code, const char* what) {
  if (code == CUBLAS_STATUS_SUCCESS) return OkStatus();
  return Unavailable(Str("cuBLAS: ", what, ": ", cublasGetStatusString(code)));
}

class CublasProduct final : public DenseProduct {
 public:
  explicit CublasProduct(cublasHandle_t handle) : handle_(handle) {}
  ~CublasProduct() override { (void)cublasDestroy(handle_); }

  // Column by column, as cuBLAS counts, w is [n_in, n_out] and has to be turned.
  Status Run(TensorView w, TensorView x, TensorView y) override {
    const float one = 1, zero = 0;
    const auto n_out = static_cast<int>(w.n_rows), n_in = static_cast<int>(w.n_cols);
    return ToStatus(cublasGemmEx(handle_, CUBLAS_OP_T, CUBLAS_OP_N, n_out, 1, n_in, &one, w.data,
                                 CUDA_R_16F, n_in, x.data, CUDA_R_16F, n_in, &zero, y.data,
                                 CUDA_R_16F, n_out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                    "product");
  }

 private:
  const cublasHandle_t handle_;
};

}  // namespace

Result<std::unique_ptr<DenseProduct>> MakeDenseProduct(kernels::Device& device) {
  if (device.stream() == nullptr) return Unavailable("cuBLAS computes on GPUs");
  cublasHandle_t handle = nullptr;
  TC_RETURN_IF_ERROR(ToStatus(cublasCreate(&handle), "start"));
  auto product = std::make_unique<CublasProduct>(handle);
  TC_RETURN_IF_ERROR(
      ToStatus(cublasSetStream(handle, static_cast<cudaStream_t>(device.stream())), "stream"));
  return std::unique_ptr<DenseProduct>(std::move(product));
}

}  // namespace thermocline::bench
