// out = x w^T for dense weights, by cuBLASLt: its algorithm for a shape is looked up once and kept.
// Row-major [rows, columns] is cuBLAS's column-major [columns, rows]: out^T = w x^T, with w transposed as it
// lies.

#include <cublasLt.h>

#include <map>
#include <tuple>

#include "cuda/awq_launch.h"
#include "cuda/f8_matmul.h"
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
  bool adds_bias = false;
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

  // Whether a bias, if there is one, is added.
  bool run(const MatmulArgs& a, cudaDataType_t type) {
    const Plan& plan = find(a, type);
    if (plan.adds_bias) {
      const void* bias = static_cast<const char*>(a.bias->data) + narrow_copy(a.weight->rows);
      set(plan.matmul, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
    }
    const float one = 1, zero = 0;
    check(cublasLtMatmul(handle_, plan.matmul, &one, a.weight->data, plan.weight, a.x, plan.x, &zero, a.out,
                         plan.out, a.out, plan.out, &plan.algorithm, workspace_, kWorkspaceBytes,
                         static_cast<cudaStream_t>(stream_.handle())),
          "matmul");
    return plan.adds_bias || a.bias == nullptr;
  }

 private:
  using Key = std::tuple<int, int64_t, int64_t, int64_t, int64_t, cudaDataType_t, bool, bool>;

  template <typename V>
  static void set(cublasLtMatmulDesc_t matmul, cublasLtMatmulDescAttributes_t attribute, const V& value) {
    check(cublasLtMatmulDescSetAttribute(matmul, attribute, &value, sizeof value), "description");
  }

  const Plan& find(const MatmulArgs& a, cudaDataType_t type) {
    const Key key = {a.num_tokens, a.weight->rows, a.weight->cols, a.x_stride,
                     a.out_stride, type,           a.is_f32_out,   a.bias != nullptr};
    const auto known = plans_.find(key);
    if (known != plans_.end()) return known->second;
    return plans_[key] = make(a, type);
  }

  Plan make(const MatmulArgs& a, cudaDataType_t type) {
    Plan plan;
    check(cublasLtMatmulDescCreate(&plan.matmul, CUBLAS_COMPUTE_32F, CUDA_R_32F), "description");
    set(plan.matmul, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    const auto layout = [](cublasLtMatrixLayout_t* out, cudaDataType_t form, int64_t rows, int64_t cols,
                           int64_t ld) {
      check(
          cublasLtMatrixLayoutCreate(out, form, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), ld),
          "layout");
    };
    layout(&plan.weight, type, a.weight->cols, a.weight->rows, a.weight->cols);
    layout(&plan.x, type, a.weight->cols, a.num_tokens, a.x_stride);
    layout(&plan.out, a.is_f32_out ? CUDA_R_32F : type, a.weight->rows, a.num_tokens, a.out_stride);
    // A bias has the form of what comes out, and is there in 16 bits only.
    if (a.bias != nullptr && !a.is_f32_out) {
      set(plan.matmul, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      plan.adds_bias = find_algorithm(plan);
      if (plan.adds_bias) return plan;
      set(plan.matmul, CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_DEFAULT);
    }
    if (!find_algorithm(plan)) {
      throw std::runtime_error("cuBLASLt has no algorithm for a matmul of " + std::to_string(a.num_tokens) +
                               " rows by [" + std::to_string(a.weight->rows) + ", " +
                               std::to_string(a.weight->cols) + "]");
    }
    return plan;
  }

  bool find_algorithm(Plan& plan) {
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
    if (status != CUBLAS_STATUS_NOT_SUPPORTED) check(status, "algorithm");
    plan.algorithm = found.algo;
    return status == CUBLAS_STATUS_SUCCESS && count > 0;
  }

  Stream& stream_;
  void* const workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, Plan> plans_;
};

}  // namespace

template <typename T>
bool dense_matmul(const MatmulArgs& a, Stream& stream) {
  if (stream.blas == nullptr) stream.blas = std::make_shared<Blas>(stream);
  return static_cast<Blas*>(stream.blas.get())
      ->run(a, DTypeOf<T>::value == DType::kF16 ? CUDA_R_16F : CUDA_R_16BF);
}

void dense_f8_matmul(const MatmulArgs& a, Stream& stream) {
  if (stream.blas == nullptr) stream.blas = std::make_shared<Blas>(stream);
  static_cast<Blas*>(stream.blas.get())->run(a, CUDA_R_8F_E4M3);
}

template bool dense_matmul<Half>(const MatmulArgs&, Stream&);
template bool dense_matmul<BFloat>(const MatmulArgs&, Stream&);

}  // namespace quire::cuda
