#pragma once

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

void test_rounded_rows(Run& run, const Ops& ops);

}  // namespace quire::test
