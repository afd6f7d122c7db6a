// out = x W^T + b for integer weights in tiles (weight_tiles.h) and activations rounded to 8 bits on the way
// in, per token and group: x = q * scale with scale = max|x| / 127 (as in LLM.int8(), arXiv 2208.07339, by
// groups).
//
// Bound: a few tokens stream the weights once, so memory bandwidth; many, the dot-product units. Sums within
// a group are exact; the groups of an output are one chain of fused multiply-adds in order. So every shape of
// register block gives bitwise the same number.
#pragma once

#include "cpu/int8_dot.h"
#include "cpu/pieces.h"
#include "cpu/round_row.h"
#include "cpu/simd.h"
#include "ops.h"
#include "thread_pool.h"
#include "weight_tiles.h"

namespace quire::QUIRE_VARIANT {

// kWidth outputs of a tile, as the kernels walk them.
struct Strip {
  const uint8_t* data;
  const uint16_t* scales;
  const uint8_t* zeros;  // null: all are the middle
};

// The fewest lines of a strip that hold whole steps (weight_tiles.h).
template <int kBits>
struct Lines {
  static constexpr int kCount = kBits == 6 ? 3 : 1;
  static constexpr int kSteps = kCount * 8 / kBits;
  static constexpr int64_t kBytes = kCount * kTileLine;

  Bytes bytes[kCount];

  void load(const uint8_t* data) {
    for (int i = 0; i < kCount; i++) bytes[i] = load_bytes(data + i * kTileLine);
  }
  static void ask(const uint8_t* data) {
    constexpr int kLevel = kWidth == kTileRows ? 2 : 3;
    for (int i = 0; i < kCount; i++) __builtin_prefetch(data + i * kTileLine, 0, kLevel);
  }
  Bytes step(int i) const {
    if (kBits == 4) return i == 0 ? low_halves(bytes[0]) : high_halves(bytes[0]);
    if (kBits == 6) return i < 3 ? low_six(bytes[i]) : join_tops(bytes[0], bytes[1], bytes[kCount - 1]);
    return bytes[0];
  }
};

// How far from the lines of group g those are that are asked for meanwhile; 0: none are.
//
// AVX-512: what the strips after these have there, to the second-level cache; a lone token leaves it to the
// processor, which does better. With half the width a strip takes twice as long, and each would begin with
// waiting: a little further on in the same strips, or at their end, where the strips after these begin.
template <int kBits, int kStrips, int kTokens>
inline int64_t bytes_ahead(const RoundedRows& x, int64_t g) {
  constexpr int64_t kAhead = 4096;
  constexpr int kTiles = kStrips * kWidth > kTileRows ? kStrips * kWidth / kTileRows : 1;
  const int64_t strip_bytes = x.cols * kBits / 32 * kTileLine;
  if (kWidth == kTileRows) return kTokens > 1 ? kTiles * strip_bytes : 0;
  const int64_t at = g * x.group * kBits / 32 * kTileLine;
  return at + kAhead < strip_bytes ? kAhead : kAhead + (kTiles - 1) * strip_bytes;
}

// sums[s][t] += the products of group g.
template <int kBits, int kStrips, int kTokens>
inline void add_products(Sums (&sums)[kStrips][kTokens], const Strip* strips, const RoundedRows& x,
                         const int8_t* inputs, int64_t g) {
  using Line = Lines<kBits>;
  constexpr int kPartial = kPartialSteps<kBits>;
  constexpr int64_t kBytes = (kPartial > Line::kSteps ? kPartial / Line::kSteps : 1) * Line::kBytes;
  const int64_t group_bytes = x.group * kBits / 32 * kTileLine;
  const int64_t ahead = bytes_ahead<kBits, kStrips, kTokens>(x, g);
  for (int64_t at = g * group_bytes; at < (g + 1) * group_bytes; at += kBytes) {
    Sums partials[kStrips][kTokens];
    for (int s = 0; s < kStrips; s++) {
      for (int t = 0; t < kTokens; t++) partials[s][t] = begin_partials(sums[s][t]);
    }
    // Unrolled, all products would be made first, and there are not the registers for that.
#pragma GCC unroll 1
    for (int64_t line = at; line < at + kBytes; line += Line::kBytes) {
      Line lines[kStrips];
      for (int s = 0; s < kStrips; s++) {
        lines[s].load(strips[s].data + line);
        if (ahead != 0 && s * kWidth % kTileRows == 0) Line::ask(strips[s].data + line + ahead);
      }
      for (int step = 0; step < Line::kSteps; step++) {
        Bytes weights[kStrips];
        for (int s = 0; s < kStrips; s++) weights[s] = lines[s].step(step);
        for (int t = 0; t < kTokens; t++) {
          for (int s = 0; s < kStrips; s++) {
            partials[s][t] = dot<kBits>(partials[s][t], weights[s], inputs + t * x.cols);
            if (step + 1 < Line::kSteps && (step + 1) % kPartial == 0) {
              sums[s][t] = end_partials(sums[s][t], partials[s][t]);
              partials[s][t] = begin_partials(sums[s][t]);
            }
          }
        }
        inputs += 4;
      }
    }
    for (int s = 0; s < kStrips; s++) {
      for (int t = 0; t < kTokens; t++) sums[s][t] = end_partials(sums[s][t], partials[s][t]);
    }
  }
}

template <int kBits, int kStrips, int kTokens>
inline void int8_block(float* out, int64_t out_stride, int64_t num_outputs, const Strip* strips,
                       const RoundedRows& x, int64_t token) {
  const int64_t groups = x.num_groups();
  const int8_t* q = x.q + token * x.cols;
  const float* x_scales = x.scales + token * groups;
  const int32_t* negated_sums = x.negated_sums + token * groups;
  Vec acc[kStrips][kTokens];
  for (int s = 0; s < kStrips; s++) {
    for (int t = 0; t < kTokens; t++) acc[s][t] = zero();
  }
  for (int64_t g = 0; g < groups; g++) {
    Sums sums[kStrips][kTokens];
    for (int s = 0; s < kStrips; s++) {
      const Sums zeros = strips[s].zeros == nullptr ? same_zeros(1 << (kBits - 1))
                                                    : load_zeros(strips[s].zeros + g * kTileRows);
      for (int t = 0; t < kTokens; t++) sums[s][t] = start_sums<kBits>(zeros, negated_sums[t * groups + g]);
    }
    add_products<kBits>(sums, strips, x, q + g * x.group, g);
    for (int s = 0; s < kStrips; s++) {
      const Vec scales = load<F16>(strips[s].scales + g * kTileRows);
      for (int t = 0; t < kTokens; t++) {
        const Vec scale = mul(scales, broadcast(x_scales[t * groups + g]));
        acc[s][t] = fma(to_floats(sums[s][t]), scale, acc[s][t]);
      }
    }
  }
  for (int s = 0; s < kStrips; s++) {
    const int64_t left = num_outputs - s * kWidth;
    if (left <= 0) return;
    for (int t = 0; t < kTokens; t++) {
      store_up_to(out + t * out_stride + s * kWidth, acc[s][t],
                  left < kWidth ? static_cast<int>(left) : kWidth);
    }
  }
}

// Tokens [first, last) for kStrips strips. Blocks of up to kMost tokens; their accumulators fill the
// registers.
template <int kBits, int kStrips, int kMost>
inline void int8_tokens(float* out, int64_t out_stride, int64_t num_outputs, const Strip* strips,
                        const RoundedRows& x, int64_t first, int64_t last) {
  int64_t t = first;
  for (; t + kMost <= last; t += kMost) {
    int8_block<kBits, kStrips, kMost>(out + t * out_stride, out_stride, num_outputs, strips, x, t);
  }
  if constexpr (kMost > 1) {
    if (t < last) {
      int8_tokens<kBits, kStrips, kMost - 1>(out, out_stride, num_outputs, strips, x, t, last);
    }
  }
}

struct Int8Matmul {
  const MatmulArgs& args;
  WeightTiles weight;
  RoundedRows x;

  Strip strip(int64_t row) const {
    const int64_t tile = row / kTileRows, lane = row % kTileRows;
    const int64_t group = tile * weight.num_groups() * kTileRows + lane;
    return {weight.data + tile * weight.tile_bytes() + lane * 4, weight.scales + group,
            weight.zeros == nullptr ? nullptr : weight.zeros + group};
  }

  // kStrips strips at a time, then half as many.
  template <int kBits, int kStrips, int kMost>
  void rows(int64_t first_row, int64_t last_row, int64_t first, int64_t last) const {
    int64_t row = first_row;
    for (; row + (kStrips - 1) * kWidth < last_row; row += kStrips * kWidth) {
      Strip strips[kStrips];
      for (int s = 0; s < kStrips; s++) strips[s] = strip(row + s * kWidth);
      int8_tokens<kBits, kStrips, kMost>(f32(args.out) + row, args.out_stride, last_row - row, strips, x,
                                         first, last);
    }
    if constexpr (kStrips > 1) {
      if (row < last_row) rows<kBits, kStrips / 2, kMost>(row, last_row, first, last);
    }
  }

  // A lone token needs more rows in flight to cover the latency of its chains, and still more where strips
  // are short: in each the processor begins anew to fetch ahead.
  static constexpr int kShortStrips = kWidth == 16 ? 8 : 4;
  bool has_short_strips() const { return weight.tile_bytes() <= 32 * 1024; }

  int64_t rows_per_piece() const {
    return args.num_tokens == 1 && kWidth == 16 && has_short_strips() ? kShortStrips * kWidth : 64;
  }

  template <int kBits>
  void run(int64_t first_row, int64_t last_row, int64_t first, int64_t last) const {
    constexpr int kManyTokens = kWidth == 16 ? 6 : 2;
    if (last - first > 1) {
      rows<kBits, 2, kManyTokens>(first_row, last_row, first, last);
    } else if (has_short_strips()) {
      rows<kBits, kShortStrips, 1>(first_row, last_row, first, last);
    } else {
      rows<kBits, 4, 1>(first_row, last_row, first, last);
    }
    add_bias(args, first_row, last_row, first, last);
  }
};

// What goes into the matmul, rounded by whoever made it or else here.
inline RoundedRows rounded_inputs(const MatmulArgs& a, ThreadPool& pool) {
  if (a.rounded != nullptr) return *a.rounded;
  const int64_t cols = a.weight->cols, tokens = a.num_tokens;
  const RoundedRows rows =
      rounded_rows_at(pool.workspace(int8_bytes(tokens, cols)), tokens, cols, a.weight->groups.group);
  for_each_row(pool, tokens, cols, [&](int64_t t) {
    const float* x = f32(a.x) + t * a.x_stride;
    round_row(rows, t, [&](int64_t k) { return load<F32>(x + k); });
  });
  return rows;
}

inline void int8_matmul(const MatmulArgs& a, ThreadPool& pool) {
  const Int8Matmul matmul = {a, WeightTiles(*a.weight), rounded_inputs(a, pool)};
  const PieceSize size = {matmul.rows_per_piece(), tokens_per_piece(a, 1)};
  for_each_piece(a, pool, size, [&](int64_t row, int64_t last_row, int64_t first, int64_t last) {
    if (matmul.weight.bits == 4) {
      matmul.run<4>(row, last_row, first, last);
    } else if (matmul.weight.bits == 6) {
      matmul.run<6>(row, last_row, first, last);
    } else {
      matmul.run<8>(row, last_row, first, last);
    }
  });
}

}  // namespace quire::QUIRE_VARIANT
