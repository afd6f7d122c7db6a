#pragma once

#include "ops.h"

namespace quire {

// Row i of the call: log-probabilities, penalties and one draw, by full sorts in double.
void reference_sample_row(const SampleArgs& args, int i);

}  // namespace quire
