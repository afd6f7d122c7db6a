// The tests of the threads themselves.
#pragma once

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

void test_thread_pool(Run& run, const Ops& ops);

}  // namespace quire::test
