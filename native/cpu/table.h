// The op table of the variant that includes this.
#pragma once

#include "cpu/attention_split.h"
#include "cpu/elementwise.h"
#include "cpu/lora.h"
#include "cpu/matmul.h"
#include "cpu/moe.h"
#include "cpu/sampler.h"
#include "ops.h"
#include "thread_pool.h"

namespace quire::QUIRE_VARIANT {

constexpr Ops make_table(const char* name) {
  return {name,
          DType::kF32,
          on_threads<embed>,
          on_threads<rms_norm>,
          on_threads<matmul>,
          on_threads<lora_matmul>,
          on_threads<rope_table>,
          on_threads<rope_and_cache>,
          on_threads<attention>,
          on_threads<silu_mul>,
          on_threads<gelu_mul>,
          on_threads<moe_route>,
          on_threads<grouped_matmul<matmul>>,
          on_threads<moe_combine>,
          on_threads<soft_cap>,
          on_threads<gather_rows>,
          on_threads<sample>,
          on_threads<copy_blocks>};
}

}  // namespace quire::QUIRE_VARIANT
