#include <cublas_v2.h>
#include <dlfcn.h>

#include <string>

#include "base/str.h"
#include "tests/bench/dense_product.h"

namespace thermocline::bench {
namespace {

// cublasGemmEx, which the header overloads.
using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int n_rows,
                                  int n_cols, int n_sums, const void* one, const void* w,
                                  cudaDataType, int w_stride, const void* x, cudaDataType,
                                  int x_stride, const void* zero, void* y, cudaDataType,
                                  int y_stride, cublasComputeType_t, cublasGemmAlgo_t);

// Loaded when it is asked for: the program runs where it was not built, with cuBLAS or without.
struct CublasApi {
  decltype(&cublasCreate) create = nullptr;
  decltype(&cublasDestroy) destroy = nullptr;
  decltype(&cublasSetStream) set_stream = nullptr;
  GemmEx product = nullptr;
  decltype(&cublasGetStatusString) text = nullptr;
};

#define TC_NAME_OF(function) TC_TEXT_OF(function)
#define TC_TEXT_OF(function) #function

template <typename Function>
Status Find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr ? OkStatus() : Unavailable(Str("cuBLAS lacks ", name));
}

// Of the version that this was compiled for; it stays loaded.
Result<CublasApi> LoadCublas() {
  const std::string name = Str("libcublas.so.", CUBLAS_VER_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW);
  if (library == nullptr) return Unavailable(Str("no cuBLAS: ", dlerror()));
  CublasApi api;
  // Names as the header has them: macros, with a version at the end.
  TC_RETURN_IF_ERROR(Find(library, TC_NAME_OF(cublasCreate), &api.create));
  TC_RETURN_IF_ERROR(Find(library, TC_NAME_OF(cublasDestroy), &api.destroy));
  TC_RETURN_IF_ERROR(Find(library, TC_NAME_OF(cublasSetStream), &api.set_stream));
  TC_RETURN_IF_ERROR(Find(library, TC_NAME_OF(cublasGemmEx), &api.product));
  TC_RETURN_IF_ERROR(Find(library, TC_NAME_OF(cublasGetStatusString), &api.text));
  return api;
}

Status ToStatus(const CublasApi& api, cublasStatus_t code, const char* what) {
  if (code == CUBLAS_STATUS_SUCCESS) return OkStatus();
  return Unavailable(Str("cuBLAS: ", what, ": ", api.text(code)));
}

class CublasProduct final : public DenseProduct {
 public:
  CublasProduct(const CublasApi& api, cublasHandle_t handle) : api_(api), handle_(handle) {}
  ~CublasProduct() override { (void)api_.destroy(handle_); }

  // Column by column, as cuBLAS counts, w is [n_in, n_out] and has to be turned.
  Status Run(TensorView w, TensorView x, TensorView y) override {
    const float one = 1, zero = 0;
    const auto n_out = static_cast<int>(w.n_rows), n_in = static_cast<int>(w.n_cols);
    return ToStatus(api_,
                    api_.product(handle_, CUBLAS_OP_T, CUBLAS_OP_N, n_out, 1, n_in, &one, w.data,
                                 CUDA_R_16F, n_in, x.data, CUDA_R_16F, n_in, &zero, y.data,
                                 CUDA_R_16F, n_out, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                    "product");
  }

 private:
  const CublasApi api_;
  const cublasHandle_t handle_;
};

}  // namespace

Result<std::unique_ptr<DenseProduct>> MakeDenseProduct(kernels::Device& device) {
  if (device.stream() == nullptr) return Unavailable("cuBLAS computes on GPUs");
  TC_ASSIGN_OR_RETURN(const CublasApi api, LoadCublas());
  cublasHandle_t handle = nullptr;
  TC_RETURN_IF_ERROR(ToStatus(api, api.create(&handle), "start"));
  auto product = std::make_unique<CublasProduct>(api, handle);
  TC_RETURN_IF_ERROR(
      ToStatus(api, api.set_stream(handle, static_cast<cudaStream_t>(device.stream())), "stream"));
  return std::unique_ptr<DenseProduct>(std::move(product));
}

}  // namespace thermocline::bench
