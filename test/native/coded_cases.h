#pragma once

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

void test_coded_round_trip(Run& run, const Ops&);
void test_coded_refusal(Run& run, const Ops&);
void test_coded_soundness(Run& run, const Ops&);
void test_coded_matmul(Run& run, const Ops& ops);
void test_coded_embed(Run& run, const Ops& ops);

}  // namespace quire::test
