#include <cmath>
#include <memory>

#include "moe_cases.h"
#include "panels.h"
#include "thread_pool.h"

namespace quire::test {

void test_moe(Run& run, const Ops& ops) {
  ThreadPool one(1), three(3);
  for (const MoeCase& c : moe_cases()) {
    const bool renormalises = run.below(2) == 0;
    const std::vector<float> logits = router_logits(run, c);
    Routing expected(c), found(c);
    expected.route(reference_ops(), c, logits, renormalises, one);
    found.route(ops, c, logits, renormalises, three);
    run.check(found.places_like(expected), "moe_route");
    for (size_t i = 0; i < found.weights.size(); i++) {
      run.near(found.weights[i], expected.weights[i], 1e-6, "weights of moe_route");
    }
    const int rows = c.tokens * c.top_k, stride = c.outputs + 3;
    std::vector<std::unique_ptr<Matrix>> matrices;
    std::vector<std::unique_ptr<Panels>> panels;
    std::vector<Tensor> weights, packed;
    for (int e = 0; e < c.experts; e++) {
      matrices.push_back(std::make_unique<Matrix>(run, c.outputs, c.inputs, DType::kBF16));
    }
    for (const auto& matrix : matrices) {
      panels.push_back(std::make_unique<Panels>(matrix->tensor));
      weights.push_back(matrix->tensor);
      packed.push_back(panels.back()->tensor);
    }
    const std::vector<float> x = rounded_to_bf16(run.values(int64_t{rows} * c.inputs));
    std::vector<float> wanted(int64_t{rows} * stride, -1.0f), product = wanted;
    reference_ops().grouped_matmul(
        {wanted.data(), x.data(), weights.data(), nullptr, expected.starts.data(), c.experts, rows, stride},
        one);
    ops.grouped_matmul(
        {product.data(), x.data(), packed.data(), nullptr, expected.starts.data(), c.experts, rows, stride},
        three);
    for (size_t i = 0; i < wanted.size(); i++)
      run.near(product[i], wanted[i], c.inputs * 1e-6, "grouped_matmul");
    std::vector<float> sums(int64_t{c.tokens} * stride), sums_found(sums.size());
    reference_ops().moe_combine({sums.data(), wanted.data(), expected.weights.data(), expected.places.data(),
                                 c.tokens, c.top_k, stride},
                                one);
    ops.moe_combine({sums_found.data(), wanted.data(), expected.weights.data(), expected.places.data(),
                     c.tokens, c.top_k, stride},
                    three);
    for (size_t i = 0; i < sums.size(); i++) run.near(sums_found[i], sums[i], c.inputs * 1e-6, "moe_combine");
  }
}

}  // namespace quire::test
