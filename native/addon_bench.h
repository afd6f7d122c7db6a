// What `quire bench ops` calls.
#pragma once

#include <napi.h>

namespace quire {

// Adds benchOp and cpuRoofs.
void add_bench(Napi::Env env, Napi::Object exports);

}  // namespace quire
