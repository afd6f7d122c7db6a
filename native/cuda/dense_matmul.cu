// out = x w^T for dense weights, by cuBLASLt: its algorithm for a shape is looked up once and kept.
// Row-major [rows, columns] is cuBLAS's column-major [columns, rows]: out^T = w x^T, with w transposed as it
// lies.

#include <cublasLt.h>

#include <map>
#include <tuple>

#include "cuda/awq_launch.h"
#include "cuda/launch.h"

namespace quire::cuda {

namespace {

constexpr size_t kWorkspaceBytes = 32 << 20;

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("cuBLASLt ") + what + ": " + cublasLtGetStatusString(status));
}

// One shape: what cuBLASLt wants to know of it, and the algorithm it names.
struct Plan {
  cublasLtMatmulDesc_t matmul = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

class Blas {
 public:
  explicit Blas(Stream& stream) : stream_(stream), workspace_(stream.allocate(kWorkspaceBytes)) {
    check(cublasLtCreate(&handle_), "start");
  }
  ~Blas() {
    for (auto& [key, plan] : plans_) {
      cublasLtMatrixLayoutDestroy(plan.out);
      cublasLtMatrixLayoutDestroy(plan.x);
      cublasLtMatrixLayoutDestroy(plan.weight);
      cublasLtMatmulDescDestroy(plan.matmul);
    }
    cublasLtDestroy(handle_);
    stream_.release(workspace_);
  }

  void run(const MatmulArgs& a, cudaDataType_t type) {
    const Plan& plan = find(a, type);
    const float one = 1, zero = 0;
    check(cublasLtMatmul(handle_, plan.matmul, &one, a.weight->data, plan.weight, a.x, plan.x, &zero, a.out,
                         plan.out, a.out, plan.out, &plan.algorithm, workspace_, kWorkspaceBytes,
                         static_cast<cudaStream_t>(stream_.handle())),
          "matmul");
  }

 private:
  using Key = std::tuple<int, int64_t, int64_t, int64_t, int64_t, cudaDataType_t, bool>;

  const Plan& find(const MatmulArgs& a, cudaDataType_t type) {
    const Key key = {a.num_tokens, a.weight->rows, a.weight->cols, a.x_stride,
                     a.out_stride, type,           a.is_f32_out};
    const auto known = plans_.find(key);
    if (known != plans_.end()) return known->second;
    return plans_[key] = make(a, type);
  }

  Plan make(const MatmulArgs& a, cudaDataType_t type) {
    Plan plan;
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescCreate(&plan.matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description");
    check(cublasLtMatmulDescSetAttribute(plan.matmul, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof transposed),
          "description");
    const auto layout = [](cublasLtMatrixLayout_t* out, cudaDataType_t form, int64_t rows, int64_t cols,
                           int64_t ld) {
      check(
          cublasLtMatrixLayoutCreate(out, form, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld),
          "layout");
    };
    layout(&plan.weight, type, a.weight->cols, a.weight->rows, a.weight->cols);
    layout(&plan.x, type, a.weight->cols, a.num_tokens, a.x_stride);
    layout(&plan.out, a.is_f32_out ? CUDA_R_32F : type, a.weight->rows, a.num_tokens, a.out_stride);
    cublasLtMatmulPreference_t preference = nullptr;
    check(cublasLtMatmulPreferenceCreate(&preference), "preference");
    check(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                               &kWorkspaceBytes, sizeof kWorkspaceBytes),
          "preference");
    cublasLtMatmulHeuristicResult_t found{};
    int count = 0;
    const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
        handle_, plan.matmul, plan.weight, plan.x, plan.out, plan.out, preference, 1, &found, &count);
    cublasLtMatmulPreferenceDestroy(preference);
    check(status, "algorithm");
    if (count == 0) throw std::runtime_error("cuBLASLt has no algorithm for a matmul of this shape");
    plan.algorithm = found.algo;
    return plan;
  }

  Stream& stream_;
  void* const workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, Plan> plans_;
};

}  // namespace

template <typename T>
void dense_matmul(const MatmulArgs& a, Stream& stream) {
  if (stream.blas == nullptr) stream.blas = std::make_shared<Blas>(stream);
  static_cast<Blas*>(stream.blas.get())->run(a, DTypeOf<T>::value == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF);
}

template void dense_matmul<Half>(const MatmulArgs&, Stream&);
template void dense_matmul<BFloat>(const MatmulArgs&, Stream&);

}  // namespace quire::cuda
