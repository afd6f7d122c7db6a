#include "addon_bench.h"

#include <vector>

#include "addon_values.h"
#include "cpu/roofs.h"
#include "op_bench.h"

namespace quire {

namespace {

OpBench read_bench(const Napi::Object& object) {
  OpBench bench{};
  bench.op = text(object, "op");
  bench.form = text(object, "form");
  bench.group = count(object, "group");
  bench.outputs = count(object, "outputs");
  bench.inputs = count(object, "inputs");
  bench.num_heads = count(object, "numHeads");
  bench.num_kv_heads = count(object, "numKvHeads");
  bench.head_size = count(object, "headSize");
  bench.context = count(object, "context");
  const Napi::Array rows = field(object, "rows").As<Napi::Array>();
  for (uint32_t i = 0; i < rows.Length(); i++) bench.rows.push_back(rows.Get(i).ToNumber().Int32Value());
  bench.seconds = number(object, "seconds", 0, 60);
  bench.threads = count(object, "threads", 1, 1024);
  bench.rounds_activations = flag(object, "roundsActivations");
  bench.cpu_variant = field(object, "cpuVariant").IsNull() ? "" : text(object, "cpuVariant");
  return bench;
}

Napi::Value BenchOp(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::vector<double> times = bench_op(read_bench(info[0].ToObject()));
    Napi::Array found = Napi::Array::New(info.Env(), times.size());
    for (uint32_t i = 0; i < times.size(); i++) found.Set(i, times[i]);
    return found;
  });
}

Napi::Value CpuRoofs(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const Roofs roofs = measure_cpu_roofs(count(info[0].ToObject(), "threads", 1, 1024));
    Napi::Object found = Napi::Object::New(info.Env());
    found.Set("readLinear", roofs.read_linear);
    found.Set("readStreams", roofs.read_streams);
    found.Set("int8Dot", roofs.int8_dot);
    found.Set("bf16Dot", roofs.bf16_dot);
    found.Set("f32Fma", roofs.f32_fma);
    return found;
  });
}

}  // namespace

void add_bench(Napi::Env env, Napi::Object exports) {
  exports.Set("benchOp", Napi::Function::New(env, BenchOp));
  exports.Set("cpuRoofs", Napi::Function::New(env, CpuRoofs));
}

}  // namespace quire
