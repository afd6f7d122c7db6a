// Mixture of experts: batches for the tests of CPU and GPU.
#pragma once

#include <vector>

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

struct MoeCase {
  int tokens, experts, top_k, inputs, outputs;
};

// At and around 64 rows an expert, one warp of experts, and sizes that fill no tile.
inline const std::vector<MoeCase>& moe_cases() {
  static const std::vector<MoeCase> cases = {{1, 4, 1, 8, 1},     {3, 5, 2, 40, 20},   {64, 1, 1, 64, 128},
                                             {65, 2, 2, 72, 129}, {40, 33, 8, 24, 30}, {150, 3, 2, 136, 64}};
  return cases;
}

// What moe_route gives.
struct Routing {
  explicit Routing(const MoeCase& c)
      : weights(c.tokens * c.top_k),
        ids(c.tokens * c.top_k, -7),
        places(c.tokens * c.top_k, -7),
        rows(c.tokens * c.top_k, -7),
        starts(c.experts + 1, -7) {}
  std::vector<float> weights;
  std::vector<int32_t> ids, places, rows, starts;

  void route(const Ops& ops, const MoeCase& c, const std::vector<float>& logits, bool renormalises,
             Executor& executor) {
    ops.moe_route({weights.data(), ids.data(), places.data(), rows.data(), starts.data(), logits.data(),
                   c.tokens, c.experts, c.top_k, renormalises},
                  executor);
  }
  bool places_like(const Routing& other) const {
    return ids == other.ids && places == other.places && rows == other.rows && starts == other.starts;
  }
};

// Coarse, so that ties happen.
inline std::vector<float> router_logits(Run& run, const MoeCase& c) {
  std::vector<float> logits = run.values(int64_t{c.tokens} * c.experts);
  for (float& logit : logits) logit = static_cast<float>(static_cast<int>(logit * 8)) / 2;
  return logits;
}

void test_moe(Run& run, const Ops& ops);

}  // namespace quire::test
