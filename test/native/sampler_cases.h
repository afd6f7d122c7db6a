#pragma once

#include "ops.h"
#include "test_tools.h"

namespace quire::test {

// The same choices, ranks and log-probabilities as the reference.
void test_sampler_choices(Run& run, const Ops& ops);
// And the right frequencies.
void test_sampler(Run& run, const Ops& ops);

}  // namespace quire::test
