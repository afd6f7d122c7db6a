// The Node-API face of the model: checks, views, exceptions. No math. engine/native.ts is the typed mirror.

#include <limits>
#include <memory>

#include "addon_values.h"
#include "cpu/cpu_features.h"
#include "model.h"

#if defined(QUIRE_CUDA)
#include "cuda/devices.h"
#else
#include "addon_bench.h"
#endif

namespace quire {

namespace {

DType dtype(const Napi::Object& object, const char* name) {
  const std::string found = text(object, name);
  if (found == "f32") return DType::kF32;
  if (found == "f16") return DType::kF16;
  if (found == "bf16") return DType::kBF16;
  throw Napi::TypeError::New(object.Env(),
                             std::string(name) + ": found " + found + ", allowed f32, f16, bf16");
}

DType kv_cache_dtype(const Napi::Object& object) {
  const std::string found = text(object, "kvCacheDtype");
  if (found == "f8") return DType::kF8;
  if (found == "i8") return DType::kI8;
  if (found == "f32" || found == "f16" || found == "bf16") return dtype(object, "kvCacheDtype");
  throw Napi::TypeError::New(object.Env(),
                             "kvCacheDtype: found " + found + ", allowed f32, f16, bf16, f8, i8");
}

ModelConfig read_config(const Napi::Object& object) {
  ModelConfig config{};
  config.vocab_size = count(object, "vocabSize");
  config.hidden_size = count(object, "hiddenSize", 1, 1 << 20);
  config.intermediate_size = count(object, "intermediateSize", 1, 1 << 22);
  config.num_layers = count(object, "numLayers", 1, 10000);
  config.num_heads = count(object, "numHeads", 1, 1 << 16);
  config.num_kv_heads = count(object, "numKvHeads", 1, 1 << 16);
  config.head_size = count(object, "headSize", 1, 1 << 16);
  config.norm_eps = static_cast<float>(number(object, "normEps", 0, 1));
  config.is_gelu = text(object, "activation") == "gelu_tanh";
  config.qk_norm = flag(object, "qkNorm");
  config.norm_offset = flag(object, "normOffset");
  config.out_norms = flag(object, "outNorms");
  config.embed_scale = static_cast<float>(number(object, "embedScale", 0, 1e6));
  config.attention_scale = static_cast<float>(number(object, "attentionScale", 0, 1e6));
  config.attention_soft_cap = static_cast<float>(number(object, "attentionSoftCap", 0, 1e6));
  config.logit_soft_cap = static_cast<float>(number(object, "logitSoftCap", 0, 1e6));
  config.num_experts = count(object, "numExperts", 0, 1 << 16);
  config.experts_per_token = count(object, "expertsPerToken", 0, 1 << 16);
  config.renormalises_experts = flag(object, "renormalisesExperts");
  const Napi::Value freqs = field(object, "ropeInvFreq");
  const size_t num_freqs = freqs.IsTypedArray() ? freqs.As<Napi::TypedArray>().ElementLength() : 0;
  if (num_freqs > static_cast<size_t>(config.head_size) / 2) {
    throw Napi::RangeError::New(object.Env(), "ropeInvFreq has more than headSize / 2 entries");
  }
  const auto inv_freq = typed_array<Napi::Float32Array>(object, "ropeInvFreq", num_freqs);
  config.rope_inv_freq.assign(inv_freq.Data(), inv_freq.Data() + num_freqs);
  const auto windows = typed_array<Napi::Int32Array>(object, "slidingWindows", config.num_layers);
  config.sliding_windows.assign(windows.Data(), windows.Data() + config.num_layers);
  return config;
}

FilePart read_part(const Napi::Object& object) {
  constexpr int64_t kMaxExact = int64_t{1} << 53;
  return {count(object, "file", -1, 1 << 20), integer(object, "offset", 0, kMaxExact),
          integer(object, "bytes", 0, kMaxExact)};
}

TensorSource read_tensor(const Napi::Object& object) {
  TensorSource source;
  source.slot = text(object, "slot");
  source.layer = count(object, "layer", -1, 10000);
  source.expert = count(object, "expert", -1, 1 << 16);
  const std::string form = field(object, "dtype").ToString().Utf8Value();
  if (form == "f8") {
    source.dtype = DType::kF8;
    const Napi::Object f8 = field(object, "f8").ToObject();
    source.scales = read_part(field(f8, "scales").ToObject());
    source.scale_dtype = dtype(f8, "dtype");
    source.has_row_scales = flag(f8, "hasRowScales");
  } else if (form == "w4") {
    source.dtype = DType::kW4;
    const Napi::Object awq = field(object, "awq").ToObject();
    source.group = count(awq, "group", 32, 1 << 20);
    source.qzeros = read_part(field(awq, "qzeros").ToObject());
    source.scales = read_part(field(awq, "scales").ToObject());
  } else {
    source.dtype = dtype(object, "dtype");
  }
  const Napi::Array shape = field(object, "shape").As<Napi::Array>();
  if (!shape.IsArray() || shape.Length() < 1 || shape.Length() > 2) {
    throw Napi::RangeError::New(object.Env(), "tensor " + source.slot + " is neither a matrix nor a vector");
  }
  const auto size = [&](uint32_t i) -> int64_t {
    const double value = shape.Get(i).ToNumber().DoubleValue();
    if (value >= 1 && value < 2147483647.0 && value == std::floor(value)) return static_cast<int64_t>(value);
    throw Napi::RangeError::New(object.Env(), "tensor " + source.slot + " has an impossible shape");
  };
  source.rows = shape.Length() == 2 ? size(0) : 1;
  source.cols = size(shape.Length() - 1);
  const FilePart part = read_part(object);
  source.file = part.file;
  source.offset = part.offset;
  source.bytes = part.bytes;
  return source;
}

ModelFiles read_files(const Napi::Object& object) {
  ModelFiles files;
  const Napi::Array paths = field(object, "paths").As<Napi::Array>();
  const Napi::Array tensors = field(object, "tensors").As<Napi::Array>();
  if (!paths.IsArray() || !tensors.IsArray())
    throw Napi::TypeError::New(object.Env(), "paths or tensors is no array");
  for (uint32_t i = 0; i < paths.Length(); i++) files.paths.push_back(paths.Get(i).ToString().Utf8Value());
  for (uint32_t i = 0; i < tensors.Length(); i++) {
    files.tensors.push_back(read_tensor(tensors.Get(i).ToObject()));
  }
  return files;
}

Quantization quantization(const Napi::Object& object) {
  const std::string name = text(object, "quantization");
  if (name == "none") return Quantization::kNone;
  if (name == "auto") return Quantization::kAuto;
  if (name == "int8") return Quantization::kInt8;
  throw Napi::TypeError::New(object.Env(), "quantization: found " + name + ", allowed none, auto, int8");
}

// None, or one for each thread.
std::vector<int> cores(const Napi::Object& object, int threads) {
  const Napi::Array list = field(object, "cpuAffinity").As<Napi::Array>();
  if (!list.IsArray() || (list.Length() != 0 && list.Length() != static_cast<uint32_t>(threads))) {
    throw Napi::TypeError::New(object.Env(), "cpuAffinity has not one core for each thread");
  }
  std::vector<int> found;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const double core = list.Get(i).ToNumber().DoubleValue();
    if (!(core >= 0 && core < 1024 && core == std::floor(core))) {
      throw Napi::RangeError::New(object.Env(), "cpuAffinity: allowed 0 to 1023");
    }
    found.push_back(static_cast<int>(core));
  }
  return found;
}

PackedCacheOptions packed_cache(const Napi::Object& object) {
  const Napi::Value value = field(object, "packedCache");
  if (value.IsNull()) return {};
  const Napi::Object cache = value.ToObject();
  return {text(cache, "path"), text(cache, "key"), static_cast<unsigned>(count(cache, "mode", 0, 0777))};
}

ModelOptions read_options(const Napi::Object& object, const ModelConfig& config) {
  ModelOptions options{};
  options.backend = text(object, "backend");
#if defined(QUIRE_CUDA)
  const bool is_known = options.backend == "cuda" || options.backend == "emulated";
  const char* const allowed = "cuda, emulated";
#else
  const bool is_known = options.backend == "cpu" || options.backend == "reference";
  const char* const allowed = "cpu, reference";
#endif
  if (!is_known) {
    throw Napi::TypeError::New(object.Env(), "backend: found " + options.backend + ", allowed " + allowed);
  }
  options.cpu_variant = field(object, "cpuVariant").IsNull() ? "" : text(object, "cpuVariant");
  options.rounds_activations = flag(object, "roundsActivations");
  options.quantization = quantization(object);
  options.keep_dtype = field(object, "dtype").IsNull();
  options.dtype = options.keep_dtype ? DType::kF32 : dtype(object, "dtype");
  options.kv_cache_dtype = kv_cache_dtype(object);
  options.block_size = count(object, "blockSize", 8, 32);
  if (32 % options.block_size != 0) throw Napi::RangeError::New(object.Env(), "blockSize: allowed 8, 16, 32");
  const int max_model_len = count(object, "maxModelLen");
  options.sizes.max_num_batched_tokens = count(object, "maxNumBatchedTokens", 1, 1 << 24);
  options.sizes.max_num_seqs = count(object, "maxNumSeqs", 1, 1 << 20);
  options.sizes.max_blocks_per_seq = (max_model_len - 1) / options.block_size + 1;
  options.sizes.vocab_size = config.vocab_size;
  options.sizes.hidden_size = config.hidden_size;
  options.sizes.max_logprobs = count(object, "maxLogprobs", 0, 64);
  options.threads = count(object, "threads", 1, 1024);
  options.cpu_affinity = cores(object, options.threads);
  options.packed_cache = packed_cache(object);
  options.max_loras = count(object, "maxLoras", 0, 1024);
  options.seed = static_cast<uint32_t>(integer(object, "seed", 0, std::numeric_limits<uint32_t>::max()));
  options.batch_invariant = flag(object, "batchInvariant");
  options.warm_up = flag(object, "warmUp");
  options.keep_logits = flag(object, "keepLogits");
  return options;
}

// [rank, size] as a Float32Array of the given object.
std::pair<const float*, int64_t> floats(const Napi::Object& object, const char* name) {
  const Napi::Value value = field(object, name);
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_float32_array) {
    throw Napi::TypeError::New(object.Env(), std::string(name) + " is not a Float32Array");
  }
  const auto array = value.As<Napi::Float32Array>();
  return {array.Data(), static_cast<int64_t>(array.ElementLength())};
}

AdapterTensor read_adapter_tensor(const Napi::Object& object) {
  const std::string slot = text(object, "slot");
  const int projection = projection_of(slot.c_str());
  if (projection < 0) throw Napi::TypeError::New(object.Env(), "an adapter cannot change " + slot);
  const auto [a, a_size] = floats(object, "a");
  const auto [b, b_size] = floats(object, "b");
  return {static_cast<Projection>(projection),
          count(object, "layer", 0, 10000),
          count(object, "rank"),
          a,
          b,
          a_size,
          b_size};
}

// A view of arena memory that keeps the memory alive, not the model.
Napi::Value view(Napi::Env env, const ArenaArray& array, const std::shared_ptr<void>& owner) {
  auto* keep = new std::shared_ptr<void>(owner);
  const size_t length = static_cast<size_t>(array.length);
  const Napi::ArrayBuffer buffer = Napi::ArrayBuffer::New(
      env, array.data, length * 4, [](Napi::Env, void*, std::shared_ptr<void>* kept) { delete kept; }, keep);
  switch (array.type) {
    case ArenaArray::Type::kInt32:
      return Napi::Int32Array::New(env, length, buffer, 0);
    case ArenaArray::Type::kUint32:
      return Napi::Uint32Array::New(env, length, buffer, 0);
    case ArenaArray::Type::kFloat32:
      return Napi::Float32Array::New(env, length, buffer, 0);
  }
  return env.Undefined();
}

class ModelBinding : public Napi::ObjectWrap<ModelBinding> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "NativeModel",
        {InstanceMethod("allocateKvCache", &ModelBinding::AllocateKvCache),
         InstanceMethod("freeKvCache", &ModelBinding::FreeKvCache),
         InstanceMethod("launch", &ModelBinding::Launch), InstanceMethod("forward", &ModelBinding::Forward),
         InstanceMethod("sample", &ModelBinding::Sample), InstanceMethod("collect", &ModelBinding::Collect),
         InstanceMethod("copyBlocks", &ModelBinding::CopyBlocks),
         InstanceMethod("reserveTokenCounts", &ModelBinding::ReserveTokenCounts),
         InstanceMethod("capture", &ModelBinding::Capture),
         InstanceMethod("captured", &ModelBinding::Captured),
         InstanceMethod("loadAdapter", &ModelBinding::LoadAdapter),
         InstanceMethod("unloadAdapter", &ModelBinding::UnloadAdapter),
         InstanceMethod("lastLogits", &ModelBinding::LastLogits),
         InstanceMethod("close", &ModelBinding::Close)});
  }

  // (config, files, options, a model to compute with the threads of or nothing)
  explicit ModelBinding(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ModelBinding>(info) {
    const Napi::Env env = info.Env();
    guarded(env, [&] {
      if (info.Length() < 3 || !info[0].IsObject() || !info[1].IsObject() || !info[2].IsObject()) {
        throw Napi::TypeError::New(env, "openModel takes a config, files and options");
      }
      const ModelConfig config = read_config(info[0].As<Napi::Object>());
      ModelOptions options = read_options(info[2].As<Napi::Object>(), config);
      if (info[3].IsObject()) options.pool = Unwrap(info[3].As<Napi::Object>())->model(info).pool();
      model_ = std::make_unique<Model>(config, read_files(info[1].As<Napi::Object>()), options);
    });
    Napi::Object self = info.This().As<Napi::Object>();
    self.Set("description", model_->description());
    self.Set("isAsync", model_->is_async());
    Napi::Object memory = Napi::Object::New(env);
    memory.Set("weightBytes", static_cast<double>(model_->weight_bytes()));
    memory.Set("kvBytesPerBlock", static_cast<double>(model_->kv_bytes_per_block()));
    memory.Set("workspaceBytes", static_cast<double>(model_->workspace_bytes()));
    memory.Set("totalBytes", static_cast<double>(model_->total_bytes()));
    memory.Set("freeBytes", static_cast<double>(model_->free_bytes()));
    self.Set("memory", memory);
    const PackedCacheReport cache = model_->packed_cache();
    if (!cache.text.empty()) {
      Napi::Object report = Napi::Object::New(env);
      report.Set("isProblem", cache.is_problem);
      report.Set("text", cache.text);
      self.Set("packedCache", report);
    } else {
      self.Set("packedCache", env.Null());
    }
    Napi::Object batch = Napi::Object::New(env);
    for (const ArenaArray& array : model_->arena().arrays()) {
      batch.Set(array.field, view(env, array, model_->arena().memory()));
    }
    self.Set("batch", batch);
    SetTokenCountViews(batch);
  }

 private:
  Model& model(const Napi::CallbackInfo& info) {
    if (model_ == nullptr) throw Napi::Error::New(info.Env(), "the model is closed");
    return *model_;
  }

  static int Count(const Napi::CallbackInfo& info, size_t i) {
    const double value =
        i < info.Length() && info[i].IsNumber() ? info[i].As<Napi::Number>().DoubleValue() : NAN;
    if (value >= 0 && value <= 2147483646.0 && value == std::floor(value)) return static_cast<int>(value);
    throw Napi::RangeError::New(info.Env(), "argument " + std::to_string(i) + " is not a count");
  }

  void SetTokenCountViews(Napi::Object batch) {
    const Arena& arena = model_->arena();
    batch.Set("tokenCountIds", view(batch.Env(), arena.token_count_ids(), arena.token_count_memory()));
    batch.Set("tokenCounts", view(batch.Env(), arena.token_counts(), arena.token_count_memory()));
  }

  void AllocateKvCache(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model(info).allocate_kv_cache(Count(info, 0)); });
  }

  void FreeKvCache(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model(info).free_kv_cache(); });
  }

  void Launch(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int num_hidden_rows = info[3].IsUndefined() ? 0 : Count(info, 3);
      model(info).launch(Count(info, 0), Count(info, 1), Count(info, 2), num_hidden_rows);
    });
  }

  void Forward(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model(info).forward(Count(info, 0), Count(info, 1)); });
  }

  void Sample(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model(info).sample(Count(info, 0), Count(info, 1)); });
  }

  void Collect(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model(info).collect(); });
  }

  void CopyBlocks(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      if (!info[0].IsTypedArray() || info[0].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
        throw Napi::TypeError::New(info.Env(), "copyBlocks takes an Int32Array of pairs");
      }
      const auto pairs = info[0].As<Napi::Int32Array>();
      model(info).copy_blocks(pairs.Data(), static_cast<int>(pairs.ElementLength() / 2));
    });
  }

  void ReserveTokenCounts(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      model(info).arena().reserve_token_counts(Count(info, 0));
      SetTokenCountViews(info.This().As<Napi::Object>().Get("batch").As<Napi::Object>());
    });
  }

  void Capture(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model(info).capture(Count(info, 0)); });
  }

  Napi::Value Captured(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const int projection = info[0].IsString() ? projection_of(info[0].ToString().Utf8Value().c_str()) : -1;
      if (projection < 0) throw Napi::TypeError::New(info.Env(), "captured takes the slot of a linear layer");
      const std::vector<float>& inputs = model(info).captured(static_cast<Projection>(projection));
      Napi::Float32Array copy = Napi::Float32Array::New(info.Env(), inputs.size());
      std::copy(inputs.begin(), inputs.end(), copy.Data());
      return copy;
    });
  }

  void LoadAdapter(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int slot = Count(info, 0);
      if (!info[1].IsArray()) throw Napi::TypeError::New(info.Env(), "loadAdapter takes a list of tensors");
      const auto list = info[1].As<Napi::Array>();
      std::vector<AdapterTensor> tensors;
      for (uint32_t i = 0; i < list.Length(); i++) {
        tensors.push_back(read_adapter_tensor(list.Get(i).ToObject()));
      }
      model(info).adapters().load(slot, tensors);
    });
  }

  void UnloadAdapter(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] { model(info).adapters().unload(Count(info, 0)); });
  }

  Napi::Value LastLogits(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      const Model& opened = model(info);
      const std::vector<float> logits = opened.logits(Count(info, 0));
      Napi::Float32Array copy = Napi::Float32Array::New(info.Env(), logits.size());
      std::copy(logits.begin(), logits.end(), copy.Data());
      return copy;
    });
  }

  void Close(const Napi::CallbackInfo&) { model_.reset(); }

  std::unique_ptr<Model> model_;
};

// What one environment (thread) of the process needs: its own class, so that workers do not share references.
struct AddonState {
  Napi::FunctionReference model_class;
};

Napi::Value OpenModel(const Napi::CallbackInfo& info) {
  const auto* state = info.Env().GetInstanceData<AddonState>();
  return state->model_class.New({info[0], info[1], info[2], info[3]});
}

Napi::Value CpuFeatures(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array variants = Napi::Array::New(env);
  if (cpu_ops_amx() != nullptr) variants.Set(variants.Length(), "amx");
  if (cpu_ops_avx512() != nullptr) variants.Set(variants.Length(), "avx512");
  if (cpu_ops_avx2() != nullptr) variants.Set(variants.Length(), "avx2");
  variants.Set(variants.Length(), "portable");
  Napi::Array sets = Napi::Array::New(env);
  for (const std::string& name : cpu_instruction_sets()) sets.Set(sets.Length(), name);
  Napi::Object features = Napi::Object::New(env);
  features.Set("variants", variants);
  features.Set("instructionSets", sets);
  return features;
}

#if defined(QUIRE_CUDA)
Napi::Value FindDevices(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const cuda::Devices found = cuda::find_devices();
  Napi::Array list = Napi::Array::New(env);
  for (const cuda::Device& device : found.list) {
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", device.name);
    entry.Set("computeCapability", std::to_string(device.major) + "." + std::to_string(device.minor));
    entry.Set("isSupported", device.major >= cuda::kMinMajor);
    entry.Set("numMultiprocessors", device.num_multiprocessors);
    entry.Set("freeBytes", static_cast<double>(device.free_bytes));
    entry.Set("totalBytes", static_cast<double>(device.total_bytes));
    list.Set(list.Length(), entry);
  }
  Napi::Object devices = Napi::Object::New(env);
  devices.Set("devices", list);
  devices.Set("driverVersion", found.driver_version);
  devices.Set("problem", found.problem);
  return devices;
}
#endif

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  auto* state = new AddonState{Napi::Persistent(ModelBinding::Define(env))};
  env.SetInstanceData(state);
  exports.Set("openModel", Napi::Function::New(env, OpenModel));
  exports.Set("cpuFeatures", Napi::Function::New(env, CpuFeatures));
#if defined(QUIRE_CUDA)
  exports.Set("findDevices", Napi::Function::New(env, FindDevices));
#else
  add_bench(env, exports);
#endif
  return exports;
}

}  // namespace

Napi::Object InitAddon(Napi::Env env, Napi::Object exports) { return Init(env, exports); }

}  // namespace quire

using quire::InitAddon;
NODE_API_MODULE(quire, InitAddon)
