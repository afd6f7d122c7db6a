// What engine/model-config.ts and engine/native.ts say of a model, as plain structs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "batch.h"
#include "tensor.h"

namespace quire {

struct ModelConfig {
  int vocab_size;
  int hidden_size;
  int intermediate_size;
  int num_layers;
  int num_heads;
  int num_kv_heads;
  int head_size;
  float norm_eps;
  bool is_gelu;  // gelu_tanh, else silu
  bool qk_norm;
  bool norm_offset;  // a norm's weight is 1 + what the file has
  bool out_norms;    // what attention and MLP give is normalised before it is added
  float embed_scale;
  float attention_scale;
  float attention_soft_cap;  // 0 is off, here and below
  float logit_soft_cap;
  int num_experts;  // 0: every layer has one MLP; else intermediate_size is an expert's
  int experts_per_token;
  bool renormalises_experts;  // weights of the chosen ones add up to 1
  std::vector<float> rope_inv_freq;
  std::vector<int32_t> sliding_windows;  // [num_layers], 0 is all
};

struct FilePart {
  int file;
  int64_t offset;
  int64_t bytes;
};

struct TensorSource {
  std::string slot;
  int layer;  // -1 for a global slot
  int expert = -1;
  DType dtype;
  int64_t rows;  // 1 for a vector
  int64_t cols;
  int file;  // -1: seeded random numbers
  int64_t offset;
  int64_t bytes;
  // With kW4, as AutoAWQ's GEMM layout has them; file, offset and bytes are qweight's.
  int group = 0;
  FilePart qzeros = {};
  FilePart scales = {};
  // With kF8, beside `scales`: their form, and whether there is one for each row.
  DType scale_dtype = DType::kF32;
  bool has_row_scales = false;
};

struct ModelFiles {
  std::vector<std::string> paths;
  std::vector<TensorSource> tensors;
};

// What becomes of weights that the files have as plain numbers. kAuto: the output head of a model in integers
// is rounded to 8 bits where activations are. kInt8: every matrix is.
enum class Quantization { kNone, kAuto, kInt8 };

// Where packed weights are kept for the next start (packed_cache.h).
struct PackedCacheOptions {
  std::string path;   // "": nowhere
  std::string key;    // of what they are made of
  unsigned mode = 0;  // the file's permissions
};

// What became of it, for whoever asked for it; empty when nothing is packed.
struct PackedCacheReport {
  bool is_problem = false;
  std::string text;
};

class ThreadPool;

struct ModelOptions {
  std::string backend;      // "cpu" or "reference"
  std::string cpu_variant;  // "" picks the best
  // On the CPU: whether a matmul may round its inputs, to 8 bits in front of integer weights.
  bool rounds_activations;
  Quantization quantization;
  bool keep_dtype;  // else matrices become `dtype`
  DType dtype;
  DType kv_cache_dtype;
  int block_size;
  BatchSizes sizes;
  int threads;
  std::vector<int> cpu_affinity;  // the core of each thread; empty: wherever the system puts them
  // On the CPU, of a model whose steps never overlap with this one's: computes with its threads instead.
  std::shared_ptr<ThreadPool> pool;
  int max_loras;  // adapter slots
  PackedCacheOptions packed_cache;
  uint32_t seed;
  bool batch_invariant;  // a request's tokens never depend on its neighbours; always so on the CPU
  bool warm_up;          // run the largest step, and every step that is recorded, before the first request
  bool keep_logits;      // all raw logits of a step stay readable, for tests and tools
};

}  // namespace quire
