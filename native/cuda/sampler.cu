// Log-probabilities, penalties and one draw per logits row; the contract and its order are in ops.h. One
// block a row.
//
// Nothing is sorted. top_k's threshold, and top_p's, are found by digits of the probability's bits, eight at
// a time, from the high end: a histogram of counts, or of mass, says in which digit the threshold lies. Mass
// is summed in integers (probability times 2^40, the likeliest token being 1), so that the result does not
// depend on the order of additions. Bound: passes over [vocab_size] floats, mostly from the second-level
// cache: two for a greedy row, about a dozen with top_k and top_p.

#include "cuda/kernels.h"
#include "cuda/launch.h"
#include "cuda/reduce.h"
#include "philox.h"

namespace quire::cuda {

namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kDigits = 256;
constexpr float kMinusInfinity = -__builtin_inff();
constexpr float kMassScale = 0x1.0p40f;

using Mass = unsigned long long;

// Where things lie in shared memory.
constexpr int kHistogramByte = kReduceBytes;              // [kDigits] Mass
constexpr int kWordsByte = kHistogramByte + kDigits * 8;  // [8] words to tell all threads
constexpr int kMassesByte = kWordsByte + 32;              // [kWarps + 2] Mass
constexpr int kSharedBytes = kMassesByte + (kWarps + 2) * 8;

struct SampleParams {
  Batch batch;
  float* logits;
  float* scratch;  // [rows, vocab_size]
  int first_row, vocab_size, max_logprobs;
};

QUIRE_DEVICE Mass mass_of(float probability) { return static_cast<Mass>(probability * kMassScale); }

struct Best {
  float value;
  int id;
};

QUIRE_DEVICE bool is_better(const Best& a, const Best& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

// The best of all threads' candidates, in every thread.
QUIRE_DEVICE Best block_best(Best best) {
  const auto fold = [&](int limit) {
    for (int mask = limit / 2; mask > 0; mask /= 2) {
      const Best other = {shuffle_xor(best.value, mask),
                          static_cast<int>(shuffle(static_cast<uint32_t>(best.id),
                                                   (static_cast<int>(threadIdx.x) % kWarp) ^ mask))};
      if (is_better(other, best)) best = other;
    }
  };
  const Shared<float> values = shared_at<float>(kHistogramByte);
  const Shared<int> ids = shared_at<int>(kHistogramByte + kWarps * 4);
  const int lane = threadIdx.x % kWarp;
  fold(kWarp);
  block_sync();
  if (lane == 0) {
    values.store(static_cast<int>(threadIdx.x) / kWarp, best.value);
    ids.store(static_cast<int>(threadIdx.x) / kWarp, best.id);
  }
  block_sync();
  best = {values.load(lane % kWarps), ids.load(lane % kWarps)};
  fold(kWarps);
  block_sync();
  return best;
}

// The likeliest token below `bound` in the order of likelihood, ties to the lower id.
QUIRE_DEVICE Best likeliest_below(const float* values, int size, Best bound) {
  Best best = {kMinusInfinity, 0x7fffffff};
  for (int i = threadIdx.x; i < size; i += kThreads) {
    const Best candidate = {values[i], i};
    if (is_better(bound, candidate) && is_better(candidate, best)) best = candidate;
  }
  return block_best(best);
}
QUIRE_DEVICE Best likeliest(const float* values, int size) {
  return likeliest_below(values, size, {-kMinusInfinity, -1});
}

QUIRE_DEVICE void report(const SampleParams& p, int row, const float* raw, int token, float max) {
  const Batch& b = p.batch;
  if (threadIdx.x == 0) b.sampled_token_ids[row] = token;
  const int num_top = b.num_logprobs[row];
  if (num_top < 0) return;
  const float chosen = raw[token];
  float sum = 0, above = 0;
  for (int i = threadIdx.x; i < p.vocab_size; i += kThreads) {
    sum += expf(raw[i] - max);
    above += raw[i] > chosen ? 1.0f : 0.0f;
  }
  const float log_sum = max + logf(block_sum(sum, shared_at<float>(0)));
  // Counts are exact in f32 as far as any vocabulary goes.
  const float rank = block_sum(above, shared_at<float>(0));
  if (threadIdx.x == 0) {
    b.sampled_logprobs[row] = chosen - log_sum;
    b.sampled_ranks[row] = 1 + static_cast<int>(rank);
  }
  Best best = {-kMinusInfinity, -1};
  for (int k = 0; k < num_top; k++) {
    best = likeliest_below(raw, p.vocab_size, best);
    if (threadIdx.x != 0) continue;
    b.top_token_ids[int64_t{row} * p.max_logprobs + k] = best.id;
    b.top_logprobs[int64_t{row} * p.max_logprobs + k] = best.value - log_sum;
  }
}

// Whether the row's grammar lets a token be.
QUIRE_DEVICE bool is_allowed(const uint32_t* bitmask, int token) {
  return bitmask == nullptr || (bitmask[token / 32] >> (token % 32) & 1) != 0;
}

// out = logits after grammar, penalties and bias.
QUIRE_DEVICE void process(const SampleParams& p, int row, const float* raw, float* out) {
  const Batch& b = p.batch;
  const int64_t words = (p.vocab_size + 31) / 32;
  const uint32_t* bitmask =
      b.grammar_rows[row] < 0 ? nullptr : b.grammar_bitmask + b.grammar_rows[row] * words;
  for (int i = threadIdx.x; i < p.vocab_size; i += kThreads) {
    out[i] = is_allowed(bitmask, i) ? raw[i] : kMinusInfinity;
  }
  block_sync();
  const float repetition = b.repetition_penalty[row];
  for (int e = b.token_count_start[row] + threadIdx.x; e < b.token_count_start[row + 1]; e += kThreads) {
    // What feed_back has counted elsewhere.
    if (b.token_count_ids[e] < 0) continue;
    float logit = out[b.token_count_ids[e]];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= b.frequency_penalty[row] * static_cast<float>(b.token_counts[e]);
    if (b.token_counts[e] > 0) logit -= b.presence_penalty[row];
    out[b.token_count_ids[e]] = logit;
  }
  block_sync();
  // Of two entries for one token one is -inf, a forbidden stop token: their order does not matter.
  for (int e = b.logit_bias_start[row] + threadIdx.x; e < b.logit_bias_start[row + 1]; e += kThreads) {
    atomic_add_global(out + b.logit_bias_ids[e], b.logit_bias_values[e]);
  }
  block_sync();
}

// What lies above a threshold, found digit by digit.
struct Threshold {
  uint32_t bits;  // of the smallest probability that is needed
  Mass before;    // weight of everything above it
};

// The smallest of the largest values whose weights together reach `enough`; weight(p) is 1 or the mass.
template <typename Weight>
QUIRE_DEVICE Threshold select(const float* probabilities, int size, Mass enough, Weight weight) {
  const Shared<Mass> histogram = shared_at<Mass>(kHistogramByte);
  const Shared<uint32_t> words = shared_at<uint32_t>(kWordsByte);
  const Shared<Mass> masses = shared_at<Mass>(kMassesByte);
  Threshold found = {0, 0};
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < kDigits; i += kThreads) histogram.store(i, 0);
    block_sync();
    const uint32_t known = shift == 24 ? 0u : 0xffffffffu << (shift + 8);
    for (int i = threadIdx.x; i < size; i += kThreads) {
      const uint32_t bits = float_as_bits(probabilities[i]);
      if (bits != 0 && (bits & known) == found.bits) {
        atomic_add(histogram, static_cast<int>(bits >> shift & 255), weight(probabilities[i]));
      }
    }
    block_sync();
    if (threadIdx.x == 0) {
      // Never past the lowest digit that holds anything: rounding may leave `enough` out of reach.
      Mass before = found.before;
      int digit = kDigits - 1, lowest = kDigits - 1;
      for (; digit >= 0; digit--) {
        const Mass here = histogram.load(digit);
        if (here > 0) lowest = digit;
        if (before + here >= enough) break;
        before += here;
      }
      if (digit < 0) {
        digit = lowest;
        before -= histogram.load(lowest);
      }
      words.store(0, static_cast<uint32_t>(digit));
      masses.store(0, before);
    }
    block_sync();
    found.bits |= words.load(0) << shift;
    found.before = masses.load(0);
    block_sync();
  }
  return found;
}

// Zeroes what is below `bits`. Of those equal to it only the `keep` of lowest id stay.
QUIRE_DEVICE void cut(float* probabilities, int size, uint32_t bits, Mass keep) {
  const Shared<Mass> masses = shared_at<Mass>(kMassesByte);
  // Each warp takes a stretch of ids, so that equals before it can be counted.
  const int stretch = (size + kWarps - 1) / kWarps;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = warp * stretch;
  const int last = first + stretch < size ? first + stretch : size;
  Mass equals = 0;
  for (int at = first; at < last; at += kWarp) {
    const int i = at + lane;
    equals += static_cast<Mass>(count_bits(ballot(i < last && float_as_bits(probabilities[i]) == bits)));
  }
  if (lane == 0) masses.store(warp, equals);
  block_sync();
  Mass seen = 0;
  for (int w = 0; w < warp; w++) seen += masses.load(w);
  for (int at = first; at < last; at += kWarp) {
    const int i = at + lane;
    const uint32_t value = i < last ? float_as_bits(probabilities[i]) : 0;
    const uint32_t votes = ballot(i < last && value == bits);
    const Mass mine = seen + static_cast<Mass>(count_bits(votes & ((1u << lane) - 1)));
    if (i < last && (value < bits || (value == bits && mine >= keep))) probabilities[i] = 0;
    seen += static_cast<Mass>(count_bits(votes));
  }
  block_sync();
}

QUIRE_DEVICE Mass warp_mass(Mass value) {
  for (int mask = kWarp / 2; mask > 0; mask /= 2) {
    value += shuffle(static_cast<uint64_t>(value), (static_cast<int>(threadIdx.x) % kWarp) ^ mask);
  }
  return value;
}

// Mass of each warp's stretch of ids; masses [kWarps].
QUIRE_DEVICE void sum_stretches(const float* probabilities, int size, Shared<Mass> masses) {
  const int stretch = (size + kWarps - 1) / kWarps;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  Mass sum = 0;
  const int last = (warp + 1) * stretch < size ? (warp + 1) * stretch : size;
  for (int i = warp * stretch + static_cast<int>(threadIdx.x) % kWarp; i < last; i += kWarp) {
    sum += mass_of(probabilities[i]);
  }
  sum = warp_mass(sum);
  if (threadIdx.x % kWarp == 0) masses.store(warp, sum);
  block_sync();
}

QUIRE_DEVICE Mass total_mass(const float* probabilities, int size) {
  const Shared<Mass> masses = shared_at<Mass>(kMassesByte);
  sum_stretches(probabilities, size, masses);
  Mass total = 0;
  for (int w = 0; w < kWarps; w++) total += masses.load(w);
  block_sync();
  return total;
}

// The first token at which the mass so far exceeds a share of the whole: `bits` 2^-53.
QUIRE_DEVICE int pick(const float* probabilities, int size, uint64_t bits) {
  const Shared<Mass> masses = shared_at<Mass>(kMassesByte);
  const Shared<uint32_t> words = shared_at<uint32_t>(kWordsByte);
  sum_stretches(probabilities, size, masses);
  Mass total = 0;
  for (int w = 0; w < kWarps; w++) total += masses.load(w);
  const Mass target = multiply_high(bits << 11, total);
  const int stretch = (size + kWarps - 1) / kWarps;
  const int lane = threadIdx.x % kWarp;
  if (threadIdx.x < kWarp) {
    Mass before = 0;
    int chosen = 0;
    while (chosen < kWarps - 1 && before + masses.load(chosen) <= target) before += masses.load(chosen++);
    const int last = (chosen + 1) * stretch < size ? (chosen + 1) * stretch : size;
    int found = -1;
    for (int at = chosen * stretch; at < last && found < 0; at += kWarp) {
      Mass running = at + lane < last ? mass_of(probabilities[at + lane]) : 0;
      // Sums up to and with this lane.
      for (int step = 1; step < kWarp; step *= 2) {
        const Mass other = shuffle(static_cast<uint64_t>(running), lane - step);
        if (lane >= step) running += other;
      }
      const uint32_t past = ballot(before + running > target);
      if (past != 0) found = at + count_bits((past & (0u - past)) - 1);
      before += shuffle(static_cast<uint64_t>(running), kWarp - 1);
    }
    if (lane == 0) words.store(0, static_cast<uint32_t>(found));
  }
  block_sync();
  const int token = static_cast<int>(words.load(0));
  block_sync();
  return token;
}

// p holds processed logits, and then probabilities.
QUIRE_DEVICE int draw(const SampleParams& params, int row, float* p, const Best& best) {
  const Batch& b = params.batch;
  const int size = params.vocab_size;
  const float inverse = 1.0f / b.temperature[row];
  const float min_p = b.min_p[row];
  block_sync();
  for (int i = threadIdx.x; i < size; i += kThreads) {
    const float probability = expf((p[i] - best.value) * inverse);
    p[i] = probability < min_p ? 0.0f : probability;
  }
  block_sync();
  const int top_k = b.top_k[row];
  if (top_k > 0 && top_k < size) {
    const Threshold t = select(p, size, static_cast<Mass>(top_k), [](float) { return Mass{1}; });
    cut(p, size, t.bits, ~Mass{0});
  }
  if (b.top_p[row] < 1) {
    const Mass total = total_mass(p, size);
    const Mass wanted = static_cast<Mass>(static_cast<double>(b.top_p[row]) * static_cast<double>(total));
    const Mass enough = wanted < 1 ? 1 : wanted;
    const Threshold t = select(p, size, enough, [](float probability) { return mass_of(probability); });
    const Mass each = mass_of(bits_as_float(t.bits));
    const Mass missing = enough > t.before ? enough - t.before : 1;
    cut(p, size, t.bits, each == 0 ? 1 : (missing + each - 1) / each);
  }
  const uint64_t bits = philox_bits(b.seeds[2 * row], b.seeds[2 * row + 1],
                                    static_cast<uint64_t>(b.positions[b.logits_rows[row]]));
  const int token = pick(p, size, bits);
  return token < 0 ? best.id : token;
}

// One block a multiprocessor to count registers for: rows are few.
__global__ void __launch_bounds__(kThreads, 1) sample_kernel(SampleParams p) {
  const Batch& b = p.batch;
  const int row = p.first_row + static_cast<int>(blockIdx.x);
  float* raw = p.logits + int64_t{blockIdx.x} * p.vocab_size;
  float* processed = p.scratch + int64_t{blockIdx.x} * p.vocab_size;
  for (int i = threadIdx.x; i < p.vocab_size; i += kThreads) {
    if (!(raw[i] == raw[i])) raw[i] = kMinusInfinity;
  }
  block_sync();
  const Best raw_best = likeliest(raw, p.vocab_size);
  if (b.target_token_ids[row] >= 0) return report(p, row, raw, b.target_token_ids[row], raw_best.value);
  const bool is_adjusted = b.token_count_start[row + 1] > b.token_count_start[row] ||
                           b.logit_bias_start[row + 1] > b.logit_bias_start[row] || b.grammar_rows[row] >= 0;
  const bool is_greedy = b.temperature[row] <= 0;
  Best best = raw_best;
  if (is_adjusted || !is_greedy) {
    process(p, row, raw, processed);
    best = likeliest(processed, p.vocab_size);
  }
  int token = best.value == kMinusInfinity ? 0 : best.id;
  if (!is_greedy && best.value > kMinusInfinity) token = draw(p, row, processed, best);
  report(p, row, raw, token, raw_best.value);
}

}  // namespace

void sample(const SampleArgs& a, Executor& stream) {
  const SampleParams params = {*a.batch,    a.logits,     a.scratch,
                               a.first_row, a.vocab_size, a.sizes.max_logprobs};
  launch("sample", sample_kernel, {static_cast<unsigned>(a.num_rows)}, kThreads, kSharedBytes,
         static_cast<Stream&>(stream), params);
}

}  // namespace quire::cuda
