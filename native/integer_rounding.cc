#include "integer_rounding.h"

#include <algorithm>
#include <cmath>

#include "float16.h"

namespace quire {

namespace {

// One group; the scale is what f16 makes of it.
float round_group(const float* x, uint8_t* q, int group, int middle) {
  const auto most = static_cast<float>(middle - 1);
  float magnitude = 0;
  for (int k = 0; k < group; k++) magnitude = std::max(magnitude, std::fabs(x[k]));
  const float scale = f16_to_float(float_to_f16(magnitude / most));
  const float inverse = scale > 0 ? 1 / scale : 0;
  // Adding and taking away 1.5 * 2^23 rounds to the nearest integer, and the compiler can do it in vectors.
  constexpr float kMagic = 12582912.0f;
  for (int k = 0; k < group; k++) {
    const float rounded = (x[k] * inverse + kMagic) - kMagic;
    q[k] = static_cast<uint8_t>(static_cast<int>(std::min(most, std::max(-most, rounded))) + middle);
  }
  return scale;
}

void read_group(const Tensor& matrix, int64_t at, float* x, int group) {
  if (matrix.dtype == DType::kBF16) {
    const auto* halves = static_cast<const uint16_t*>(matrix.data) + at;
    for (int k = 0; k < group; k++) x[k] = bf16_to_float(halves[k]);
    return;
  }
  for (int k = 0; k < group; k++) x[k] = element(matrix.data, matrix.dtype, at + k);
}

}  // namespace

void round_to_integers(const Tensor& matrix, int bits, int64_t first_row, const Tensor& out,
                       ThreadPool& pool) {
  auto* data = static_cast<uint8_t*>(const_cast<void*>(out.data));
  auto* scales = const_cast<float*>(out.groups.scales);
  auto* zeros = const_cast<uint8_t*>(out.groups.zeros);
  const int group = out.groups.group;
  const int64_t groups = out.cols / group;
  const int middle = 1 << (bits - 1);
  pool.parallel_for(out.rows, [&](int64_t row, int) {
    float x[kMostInGroup];
    for (int64_t g = 0; g < groups; g++) {
      const int64_t k = g * group;
      read_group(matrix, (first_row + row) * matrix.cols + k, x, group);
      scales[row * groups + g] = round_group(x, data + row * out.cols + k, group, middle);
    }
    std::fill(zeros + row * groups, zeros + (row + 1) * groups, static_cast<uint8_t>(middle));
  });
}

}  // namespace quire
