#pragma once

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

// Number formats and the random numbers: the same for every variant.
void test_float16(Run& run, const Ops&);
void test_philox(Run& run, const Ops&);

}  // namespace quire::test
