#include "cuda/step_buffers.h"

#include <algorithm>
#include <cstring>

namespace quire::cuda {

namespace {

// Batch is nothing but pointers into the arena, and the two of the counts.
Batch moved(const Arena& arena, char* memory, int32_t* counts) {
  Batch batch = arena.batch();
  const char* host = static_cast<const char*>(arena.memory().get());
  auto** pointers = reinterpret_cast<char**>(&batch);
  for (size_t i = 0; i < sizeof(Batch) / sizeof(char*); i++) {
    if (pointers[i] >= host && pointers[i] < host + arena.bytes())
      pointers[i] = memory + (pointers[i] - host);
  }
  batch.token_count_ids = counts;
  batch.token_counts = counts + arena.token_count_capacity();
  return batch;
}

template <typename T>
void copy(T* to, const T* from, int64_t count) {
  std::memcpy(to, from, static_cast<size_t>(count) * sizeof(T));
}

void pad_tokens(const Batch& b, const StepShape& asked, const StepShape& run) {
  for (int i = asked.num_tokens; i < run.num_tokens; i++) {
    b.token_ids[i] = 0;
    b.positions[i] = 0;
    b.slot_mapping[i] = -1;
    b.token_slots[i] = -1;
    b.query_start_loc[i + 1] = i + 1;
    b.context_lens[i] = 1;
    b.seq_rows[i] = b.seq_rows[0];
  }
}

void pad_rows(const Batch& b, const StepShape& asked, const StepShape& run) {
  for (int i = asked.num_logits_rows; i < run.num_logits_rows; i++) {
    b.logits_rows[i] = 0;
    b.target_token_ids[i] = -1;
    b.num_logprobs[i] = -1;
    b.temperature[i] = 0;
    b.grammar_rows[i] = -1;
    b.token_count_start[i + 1] = b.token_count_start[i];
    b.logit_bias_start[i + 1] = b.logit_bias_start[i];
  }
}

}  // namespace

StepBuffers::~StepBuffers() {
  stream_.release(device_);
  stream_.release(device_counts_);
  for (Slot& slot : slots_) {
    stream_.release_host(slot.memory);
    stream_.release_host(slot.counts);
  }
}

void StepBuffers::open(const Arena& arena) {
  const size_t bytes = static_cast<size_t>(arena.bytes());
  device_ = static_cast<char*>(stream_.allocate(bytes));
  stream_.clear(device_, bytes);
  for (Slot& slot : slots_) {
    slot.memory = static_cast<char*>(stream_.allocate_host(bytes));
    std::memset(slot.memory, 0, bytes);
  }
}

// The token counts grow, and rarely.
void StepBuffers::reserve_counts(const Arena& arena) {
  if (counts_capacity_ == arena.token_count_capacity()) return;
  counts_capacity_ = arena.token_count_capacity();
  const size_t bytes = static_cast<size_t>(counts_capacity_) * 2 * sizeof(int32_t);
  stream_.release(device_counts_);
  device_counts_ = static_cast<int32_t*>(stream_.allocate(bytes));
  batch_ = moved(arena, device_, device_counts_);
  for (Slot& slot : slots_) {
    stream_.release_host(slot.counts);
    slot.counts = static_cast<int32_t*>(stream_.allocate_host(bytes));
    slot.batch = moved(arena, slot.memory, slot.counts);
  }
  generation_++;
}

const Batch& StepBuffers::upload_tokens(const Arena& arena, const BatchSizes& sizes, const StepShape& asked,
                                        const StepShape& run) {
  if (device_ == nullptr) open(arena);
  reserve_counts(arena);
  const Batch& from = arena.batch();
  const Slot& slot = slots_[uploading_];
  copy_tokens(from, slot.batch, asked);
  pad_tokens(slot.batch, asked, run);
  stream_.upload(device_, slot.memory, static_cast<size_t>(arena.token_bytes()));
  copy_block_table(from, slot.batch, sizes, asked);
  return batch_;
}

void StepBuffers::upload_rows(const Arena& arena, const BatchSizes& sizes, const StepShape& asked,
                              const StepShape& run) {
  reserve_counts(arena);
  const Batch& from = arena.batch();
  const Slot& slot = slots_[uploading_];
  copy_rows(from, slot.batch, asked);
  pad_rows(slot.batch, asked, run);
  const int64_t start = arena.token_bytes();
  stream_.upload(device_ + start, slot.memory + start, static_cast<size_t>(arena.row_bytes()));
  if (asked.num_logits_rows > 0) copy_lists(from, slot.batch, sizes, asked.num_logits_rows);
}

void StepBuffers::copy_tokens(const Batch& from, const Batch& to, const StepShape& shape) {
  for (int32_t* Batch::*array :
       {&Batch::token_ids, &Batch::positions, &Batch::slot_mapping, &Batch::token_slots}) {
    copy(to.*array, from.*array, shape.num_tokens);
  }
  copy(to.query_start_loc, from.query_start_loc, shape.num_seqs + 1);
  for (int32_t* Batch::*array : {&Batch::context_lens, &Batch::seq_rows, &Batch::lora_rows}) {
    copy(to.*array, from.*array, shape.num_seqs);
  }
  has_pending_ =
      std::any_of(from.token_ids, from.token_ids + shape.num_tokens, [](int32_t id) { return id < 0; });
}

void StepBuffers::copy_rows(const Batch& from, const Batch& to, const StepShape& shape) {
  copy(to.hidden_rows, from.hidden_rows, shape.num_hidden_rows);
  const int rows = shape.num_logits_rows;
  for (int32_t* Batch::*array : {&Batch::logits_rows, &Batch::target_token_ids, &Batch::num_logprobs,
                                 &Batch::top_k, &Batch::grammar_rows}) {
    copy(to.*array, from.*array, rows);
  }
  for (float* Batch::*array : {&Batch::temperature, &Batch::top_p, &Batch::min_p, &Batch::repetition_penalty,
                               &Batch::presence_penalty, &Batch::frequency_penalty}) {
    copy(to.*array, from.*array, rows);
  }
  copy(to.seeds, from.seeds, 2 * rows);
  copy(to.token_count_start, from.token_count_start, rows + 1);
  copy(to.logit_bias_start, from.logit_bias_start, rows + 1);
}

void StepBuffers::copy_lists(const Batch& from, const Batch& to, const BatchSizes& sizes, int num_rows) {
  const auto bring = [&](auto array, int count) {
    if (count == 0) return;
    copy(to.*array, from.*array, count);
    stream_.upload(batch_.*array, to.*array, static_cast<size_t>(count) * 4);
  };
  bring(&Batch::logit_bias_ids, from.logit_bias_start[num_rows]);
  bring(&Batch::logit_bias_values, from.logit_bias_start[num_rows]);
  bring(&Batch::token_count_ids, from.token_count_start[num_rows]);
  bring(&Batch::token_counts, from.token_count_start[num_rows]);
  const int grammars = 1 + *std::max_element(from.grammar_rows, from.grammar_rows + num_rows);
  bring(&Batch::grammar_bitmask, static_cast<int>(grammars * bitmask_words(sizes.vocab_size)));
}

// The columns in use of the step's own rows; what lies between them was right when it was copied last.
void StepBuffers::copy_block_table(const Batch& from, const Batch& to, const BatchSizes& sizes,
                                   const StepShape& shape) {
  constexpr int kSmallestBlock = 8;
  const int blocks = std::min(sizes.max_blocks_per_seq, shape.max_context_len / kSmallestBlock + 1);
  const size_t pitch = static_cast<size_t>(sizes.max_blocks_per_seq);
  size_t last_row = 0;
  for (int i = 0; i < shape.num_seqs; i++) {
    const size_t row = static_cast<size_t>(from.seq_rows[i]);
    copy(to.block_table + row * pitch, from.block_table + row * pitch, blocks);
    last_row = std::max(last_row, row);
  }
  stream_.upload_rows(batch_.block_table, to.block_table, static_cast<size_t>(blocks) * 4, pitch * 4,
                      last_row + 1);
}

void StepBuffers::download(const BatchSizes& sizes, const StepShape& shape) {
  Slot& slot = slots_[uploading_];
  slot.num_rows = shape.num_logits_rows;
  int most = 0;
  for (int i = 0; i < slot.num_rows; i++) most = std::max(most, slot.batch.num_logprobs[i]);
  slot.num_top = most > 0 ? int64_t{slot.num_rows} * sizes.max_logprobs : 0;
  slot.num_hidden = int64_t{shape.num_hidden_rows} * sizes.hidden_size;
  const auto bring = [&](auto array, int64_t count) {
    if (count > 0) stream_.download(slot.batch.*array, batch_.*array, static_cast<size_t>(count) * 4);
  };
  bring(&Batch::sampled_token_ids, slot.num_rows);
  bring(&Batch::sampled_logprobs, slot.num_rows);
  bring(&Batch::sampled_ranks, slot.num_rows);
  bring(&Batch::top_token_ids, slot.num_top);
  bring(&Batch::top_logprobs, slot.num_top);
  bring(&Batch::hidden_states, slot.num_hidden);
  stream_.mark(uploading_);
  uploading_ ^= 1;
}

void StepBuffers::collect(Arena& arena) {
  const Slot& slot = slots_[collecting_];
  stream_.wait(collecting_);
  collecting_ ^= 1;
  const Batch& to = arena.batch();
  copy(to.sampled_token_ids, slot.batch.sampled_token_ids, slot.num_rows);
  copy(to.sampled_logprobs, slot.batch.sampled_logprobs, slot.num_rows);
  copy(to.sampled_ranks, slot.batch.sampled_ranks, slot.num_rows);
  copy(to.top_token_ids, slot.batch.top_token_ids, slot.num_top);
  copy(to.top_logprobs, slot.batch.top_logprobs, slot.num_top);
  copy(to.hidden_states, slot.batch.hidden_states, slot.num_hidden);
}

}  // namespace quire::cuda
