// How a step's attention is cut into pieces for the threads: by sequence, KV head and block of queries, and
// where one such piece would keep a thread busy long after the others, by key range too. What it decides
// changes no bit of the result: the ranges, and the order in which they are merged, are attention.h's.
#pragma once

#include "cpu/attention.h"

namespace quire::QUIRE_VARIANT {

// Query heads that share a KV head, at most kMaxRows of them in a span.
struct HeadSpans {
  int group;
  int heads_per_span;
  int spans_per_group;
  int count;  // of all KV heads
  int queries_per_block;
};

inline HeadSpans head_spans(const AttentionArgs& a) {
  const int group = a.num_heads / a.cache->num_kv_heads;
  const int heads = group < kMaxRows ? group : kMaxRows;
  const int spans = (group + heads - 1) / heads;
  return {group, heads, spans, a.cache->num_kv_heads * spans, kMaxRows / heads};
}

// One sequence of the step.
struct SequenceWork {
  int sequence;
  int position;  // of its first query
  int num_queries;
  int num_blocks;
  RangeSpan ranges;
  bool is_split;          // by key range; such a sequence has one block
  int64_t first_piece;    // of the step's
  int64_t first_partial;  // row of AttentionSplit::partials

  // Keys that one of its pieces walks if it is not split.
  int64_t num_keys(const AttentionArgs& a) const { return position + num_queries - first_key(a, position); }
};

struct AttentionSplit {
  const AttentionArgs& a;
  HeadSpans heads;
  int stride;          // of acc; a partial is m, l and acc
  SequenceWork* work;  // [num_seqs], the split ones first
  float* partials;     // of the split sequences: [spans, ranges, rows][2 + stride]
  int64_t num_pieces;
  int num_split;

  int64_t pieces_of(const SequenceWork& work) const {
    return int64_t{heads.count} * (work.is_split ? work.ranges.count : work.num_blocks);
  }
  int64_t partials_of(const SequenceWork& work) const {
    return int64_t{heads.count} * work.ranges.count * work.num_queries * heads.heads_per_span;
  }
  float* partial(const SequenceWork& work, int span, int range, int row) const {
    const int rows = work.num_queries * heads.heads_per_span;
    const int64_t at = work.first_partial + (int64_t{span} * work.ranges.count + range) * rows + row;
    return partials + at * (2 + stride);
  }
};

// A piece that takes more than this part of a thread's share of all keys is split.
constexpr int kPiecesPerThread = 8;

inline SequenceWork work_of(const AttentionArgs& a, const HeadSpans& heads, int s) {
  const int num_queries = a.query_start_loc[s + 1] - a.query_start_loc[s];
  const int position = a.context_lens[s] - num_queries;
  const int num_blocks = (num_queries + heads.queries_per_block - 1) / heads.queries_per_block;
  return {s, position, num_queries, num_blocks, ranges_of(a, position, a.context_lens[s]), false, 0, 0};
}

inline AttentionSplit split_attention(const AttentionArgs& a, ThreadPool& pool) {
  const int stride = (a.cache->head_size + kWidth - 1) / kWidth * kWidth;
  AttentionSplit split = {a, head_spans(a), stride, nullptr, nullptr, 0, 0};
  int64_t num_keys = 0;
  for (int s = 0; s < a.num_seqs; s++) {
    const SequenceWork work = work_of(a, split.heads, s);
    num_keys += work.num_keys(a) * work.num_blocks * split.heads.count;
  }
  const auto next_work = [&](int s) {
    SequenceWork work = work_of(a, split.heads, s);
    const int64_t pieces = int64_t{kPiecesPerThread} * pool.num_threads();
    work.is_split = work.num_blocks == 1 && work.ranges.count > 1 && work.num_keys(a) * pieces > num_keys;
    return work;
  };
  int64_t num_partials = 0;
  for (int s = 0; s < a.num_seqs; s++) {
    const SequenceWork work = next_work(s);
    split.num_split += work.is_split ? 1 : 0;
    num_partials += work.is_split ? split.partials_of(work) : 0;
  }
  const size_t work_bytes = a.num_seqs * sizeof(SequenceWork);
  split.work = reinterpret_cast<SequenceWork*>(
      pool.workspace(work_bytes + num_partials * (2 + stride) * sizeof(float)));
  split.partials = reinterpret_cast<float*>(split.work + a.num_seqs);
  int at = 0;
  num_partials = 0;
  for (bool is_split : {true, false}) {
    for (int s = 0; s < a.num_seqs; s++) {
      SequenceWork work = next_work(s);
      if (work.is_split != is_split) continue;
      work.first_piece = split.num_pieces;
      work.first_partial = num_partials;
      split.num_pieces += split.pieces_of(work);
      num_partials += is_split ? split.partials_of(work) : 0;
      split.work[at++] = work;
    }
  }
  return split;
}

inline RowBlock row_block(const AttentionSplit& split, const SequenceWork& work, int span, int block) {
  const HeadSpans& heads = split.heads;
  const int first_query = block * heads.queries_per_block;
  const int queries_left = work.num_queries - first_query;
  const int kv_head = span / heads.spans_per_group;
  const int first_head = span % heads.spans_per_group * heads.heads_per_span;
  const int heads_left = heads.group - first_head;
  return {work.sequence,
          first_query,
          queries_left < heads.queries_per_block ? queries_left : heads.queries_per_block,
          kv_head * heads.group + first_head,
          heads_left < heads.heads_per_span ? heads_left : heads.heads_per_span,
          kv_head,
          work.position + first_query};
}

// One range of a split sequence; its states go to the partials.
inline void attend_partial(const AttentionSplit& split, const SequenceWork& work, int span, int range) {
  AttentionWalk w(split.a, row_block(split, work, span, 0));
  attend_range(w, work.ranges.first + range);
  for (int r = 0; r < w.rows.num_rows(); r++) {
    float* to = split.partial(work, span, range, r);
    to[0] = w.states[r].m;
    to[1] = w.states[r].l;
    std::memcpy(to + 2, w.states[r].acc, split.stride * sizeof(float));
  }
}

inline void merge_partials(const AttentionSplit& split, const SequenceWork& work, int span) {
  const RowBlock rows = row_block(split, work, span, 0);
  for (int r = 0; r < rows.num_rows(); r++) {
    alignas(64) float acc[kMaxHeadSize];
    SoftmaxState total = {0, 0, acc, split.stride};
    total.init();
    for (int i = 0; i < work.ranges.count; i++) {
      float* from = split.partial(work, span, i, r);
      total.merge({from[0], from[1], from + 2, split.stride});
    }
    total.size = split.a.cache->head_size;
    total.normalise(out_row(split.a, rows, r));
  }
}

inline void attend_piece(const AttentionSplit& split, int64_t piece) {
  int low = 0;
  for (int high = split.a.num_seqs - 1; low < high;) {
    const int middle = (low + high + 1) / 2;
    if (split.work[middle].first_piece <= piece) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const SequenceWork& work = split.work[low];
  const int span = static_cast<int>((piece - work.first_piece) % split.heads.count);
  const int part = static_cast<int>((piece - work.first_piece) / split.heads.count);
  if (work.is_split) {
    attend_partial(split, work, span, part);
  } else {
    // The last queries see the most keys: they go first, so that what comes last is short.
    attend_block(split.a, row_block(split, work, span, work.num_blocks - 1 - part));
  }
}

inline void attention(const AttentionArgs& a, ThreadPool& pool) {
  const AttentionSplit split = split_attention(a, pool);
  // Many short sequences: several to a piece of the loop, so that it is worth handing out.
  constexpr int kMostTogether = 8;
  const int64_t share = split.num_pieces / (int64_t{kPiecesPerThread} * pool.num_threads());
  const int64_t together = share < 1 ? 1 : share < kMostTogether ? share : kMostTogether;
  pool.parallel_for((split.num_pieces + together - 1) / together, [&](int64_t i, int) {
    const int64_t end = (i + 1) * together < split.num_pieces ? (i + 1) * together : split.num_pieces;
    for (int64_t piece = i * together; piece < end; piece++) attend_piece(split, piece);
  });
  pool.parallel_for(int64_t{split.num_split} * split.heads.count, [&](int64_t i, int) {
    merge_partials(split, split.work[i / split.heads.count], static_cast<int>(i % split.heads.count));
  });
}

}  // namespace quire::QUIRE_VARIANT
