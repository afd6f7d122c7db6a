#include "arena.h"

#include <cstdlib>
#include <new>

namespace quire {

namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kInitialTokenCounts = 4096;

int64_t padded_bytes(int64_t elements) { return (elements * 4 + kLine - 1) / kLine * kLine; }

std::shared_ptr<void> allocate_zeroed(int64_t bytes) {
  void* memory = std::aligned_alloc(kLine, static_cast<size_t>(bytes));
  if (memory == nullptr) throw std::bad_alloc();
  __builtin_memset(memory, 0, static_cast<size_t>(bytes));
  return {memory, std::free};
}

}  // namespace

Arena::Arena(const BatchSizes& sizes) {
  using Type = ArenaArray::Type;
  const int64_t t = sizes.max_num_batched_tokens;
  const int64_t r = sizes.max_num_seqs;
  const int64_t k = sizes.max_logprobs;
  const int64_t q = r * kMaxLogitBias;
  struct Field {
    const char* name;
    Type type;
    void** pointer;
    int64_t length;
  };
  const auto i32 = [](const char* name, int32_t*& pointer, int64_t length) {
    return Field{name, Type::kInt32, reinterpret_cast<void**>(&pointer), length};
  };
  const auto f32 = [](const char* name, float*& pointer, int64_t length) {
    return Field{name, Type::kFloat32, reinterpret_cast<void**>(&pointer), length};
  };
  Batch& b = batch_;
  const Field fields[] = {
      i32("tokenIds", b.token_ids, t),
      i32("positions", b.positions, t),
      i32("slotMapping", b.slot_mapping, t),
      i32("queryStartLoc", b.query_start_loc, r + 1),
      i32("contextLens", b.context_lens, r),
      i32("seqRows", b.seq_rows, r),
      i32("loraRows", b.lora_rows, r),
      i32(nullptr, b.token_slots, t),
      // Up to here a backend with memory of its own copies everything at once, and from here on.
      i32("hiddenRows", b.hidden_rows, r),
      i32("logitsRows", b.logits_rows, t),
      i32("targetTokenIds", b.target_token_ids, t),
      i32("numLogprobs", b.num_logprobs, t),
      f32("temperature", b.temperature, t),
      f32("topP", b.top_p, t),
      f32("minP", b.min_p, t),
      i32("topK", b.top_k, t),
      Field{"seeds", Type::kUint32, reinterpret_cast<void**>(&b.seeds), 2 * t},
      f32("repetitionPenalty", b.repetition_penalty, t),
      f32("presencePenalty", b.presence_penalty, t),
      f32("frequencyPenalty", b.frequency_penalty, t),
      i32("tokenCountStart", b.token_count_start, t + 1),
      i32("logitBiasStart", b.logit_bias_start, t + 1),
      i32("grammarRows", b.grammar_rows, t),
      // Up to here.
      i32("blockTable", b.block_table, r * sizes.max_blocks_per_seq),
      i32("logitBiasIds", b.logit_bias_ids, q),
      f32("logitBiasValues", b.logit_bias_values, q),
      Field{"grammarBitmask", Type::kUint32, reinterpret_cast<void**>(&b.grammar_bitmask),
            r * bitmask_words(sizes.vocab_size)},
      i32("sampledTokenIds", b.sampled_token_ids, t),
      f32("sampledLogprobs", b.sampled_logprobs, t),
      i32("sampledRanks", b.sampled_ranks, t),
      i32("topTokenIds", b.top_token_ids, t * k),
      f32("topLogprobs", b.top_logprobs, t * k),
      f32("hiddenStates", b.hidden_states, r * sizes.hidden_size),
  };
  for (const Field& field : fields) bytes_ += padded_bytes(field.length);
  memory_ = allocate_zeroed(bytes_);
  char* at = static_cast<char*>(memory_.get());
  for (const Field& field : fields) {
    *field.pointer = at;
    if (field.name != nullptr) arrays_.push_back({field.name, field.type, at, field.length});
    at += padded_bytes(field.length);
  }
  reserve_token_counts(kInitialTokenCounts);
}

void Arena::reserve_token_counts(int64_t entries) {
  if (entries <= token_count_capacity_) return;
  const int64_t bytes = padded_bytes(entries);
  token_count_memory_ = allocate_zeroed(2 * bytes);
  token_count_capacity_ = entries;
  batch_.token_count_ids = static_cast<int32_t*>(token_count_memory_.get());
  batch_.token_counts = batch_.token_count_ids + bytes / 4;
}

ArenaArray Arena::token_count_ids() const {
  return {"tokenCountIds", ArenaArray::Type::kInt32, batch_.token_count_ids, token_count_capacity_};
}

ArenaArray Arena::token_counts() const {
  return {"tokenCounts", ArenaArray::Type::kInt32, batch_.token_counts, token_count_capacity_};
}

}  // namespace quire
