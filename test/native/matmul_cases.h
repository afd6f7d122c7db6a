#pragma once

#include <cstdlib>
#include <memory>

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

void test_integer_matmul(Run& run, const Ops& ops);
void test_integer_rounding(Run& run, const Ops&);

}  // namespace quire::test
