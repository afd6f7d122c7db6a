#include "coded_bf16.h"

#include <atomic>
#include <cstring>
#include <vector>

#include "weight_panels.h"

namespace quire {

namespace {

constexpr int kCodes = 16;
constexpr int kExponents = 256;
constexpr int64_t kAlignment = 64;

struct Header {
  uint64_t is_whole;
  char rest[56];
};
static_assert(sizeof(Header) == kAlignment, "what follows stays aligned");

struct PanelRecord {
  uint32_t first_exception;
  int32_t base;
};

// Where things lie, in bytes from the start.
struct Places {
  int64_t num_panels, blocks_per_panel, num_exceptions;
  int64_t blocks, exceptions, end;

  explicit Places(const Tensor& matrix)
      : num_panels((matrix.rows + kPanelRows - 1) / kPanelRows),
        blocks_per_panel(coded_blocks(matrix.cols)),
        num_exceptions(num_panels + kFewExceptions + matrix.rows * matrix.cols / kWeightsPerException) {
    const int64_t records = num_panels * static_cast<int64_t>(sizeof(PanelRecord));
    blocks = kAlignment + (records + kAlignment - 1) / kAlignment * kAlignment;
    exceptions = blocks + num_panels * blocks_per_panel * kCodedBytes;
    end = exceptions + num_exceptions * static_cast<int64_t>(sizeof(CodedException));
  }

 private:
  static constexpr int64_t kFewExceptions = 64, kWeightsPerException = 256;
};

// The base that leaves the fewest exceptions among some of a panel's elements; of several the highest, for
// what is large and rare. The step has no factor in common with a line, so that every output is seen.
int find_base(const uint16_t* lines, int64_t count) {
  const int64_t step = count > 4096 ? 9 : 1;
  int found[kExponents] = {};
  for (int64_t i = 0; i < count; i += step) found[lines[i] >> 7 & 0xff]++;
  int best = 0, most = -1, inside = 0;
  for (int e = 1; e < kExponents; e++) {
    inside += found[e];
    if (e >= kCodes) inside -= found[e - kCodes + 1];
    if (e >= kCodes - 1 && inside >= most) {
      most = inside;
      best = e - (kCodes - 1);
    }
  }
  return best;
}

bool is_exception(uint16_t value, int base) {
  const int exponent = value >> 7 & 0xff, code = exponent - base;
  return exponent != 0 && (code < 1 || code >= kCodes);
}

// Returns whether some element is an exception. In words of 16 bits, for the compiler to make vectors of.
bool code_block(const uint16_t* elements, uint16_t base, uint8_t* to) {
  uint16_t codes[kCodedElements], words[kCodedLine], outside = 0;
  for (int i = 0; i < kCodedElements; i++) {
    const uint16_t exponent = elements[i] >> 7 & 0xff;
    const uint16_t code = exponent - base, below = code - 1;
    const uint16_t has_code = exponent == 0 ? 0 : 0xffff;
    const uint16_t is_outside = below > kCodes - 2 ? 0xffff : 0;
    outside |= is_outside & has_code;
    codes[i] = code & has_code & (kCodes - 1);
  }
  for (int i = 0; i < kCodedLine; i++) {
    const uint16_t second = codes[kCodedLine + i] << 4, third = codes[2 * kCodedLine + i] << 8;
    const uint16_t fourth = codes[3 * kCodedLine + i] << 12;
    words[i] = codes[i] | second | third | fourth;
  }
  std::memcpy(to, words, sizeof words);
  uint8_t* rest = to + sizeof words;
  for (int i = 0; i < kCodedElements; i++) {
    const uint16_t sign = elements[i] >> 8 & 0x80, mantissa = elements[i] & 0x7f;
    rest[i] = static_cast<uint8_t>(sign | mantissa);
  }
  return outside != 0;
}

void code_panel(const uint16_t* lines, int64_t num_blocks, int base, uint8_t* to,
                std::vector<CodedException>& exceptions) {
  for (int64_t block = 0; block < num_blocks; block++, lines += kCodedElements, to += kCodedBytes) {
    if (!code_block(lines, static_cast<uint16_t>(base), to)) continue;
    for (int place = 0; place < kCodedElements; place++) {
      if (!is_exception(lines[place], base)) continue;
      exceptions.push_back({static_cast<uint32_t>(block), static_cast<uint16_t>(place), lines[place]});
    }
  }
  exceptions.push_back({kNoBlock, 0, 0});
}

}  // namespace

size_t coded_bytes(const Tensor& matrix) { return static_cast<size_t>(Places(matrix).end); }

void pack_coded(const Tensor& matrix, void* memory, ThreadPool& pool) {
  const Places places(matrix);
  char* start = static_cast<char*>(memory);
  auto* records = reinterpret_cast<PanelRecord*>(start + kAlignment);
  auto* exceptions = reinterpret_cast<CodedException*>(start + places.exceptions);
  std::atomic<int64_t> num_exceptions{0};
  const int64_t count = places.blocks_per_panel * kCodedElements;
  std::vector<std::vector<uint16_t>> panels(pool.num_threads());
  pool.parallel_for(places.num_panels, [&](int64_t panel, int thread) {
    if (num_exceptions > places.num_exceptions) return;
    std::vector<uint16_t>& lines = panels[thread];
    const bool is_whole = (panel + 1) * kPanelRows <= matrix.rows && matrix.cols % kCodedInputs == 0;
    if (lines.empty() || !is_whole) lines.assign(static_cast<size_t>(count), 0);
    pack_panel(matrix, panel, lines.data());
    const int base = find_base(lines.data(), count);
    std::vector<CodedException> found;
    char* blocks = start + places.blocks + panel * places.blocks_per_panel * kCodedBytes;
    code_panel(lines.data(), places.blocks_per_panel, base, reinterpret_cast<uint8_t*>(blocks), found);
    const auto size = static_cast<int64_t>(found.size());
    const int64_t first = num_exceptions.fetch_add(size);
    if (first + size > places.num_exceptions) return;
    std::memcpy(exceptions + first, found.data(), found.size() * sizeof(CodedException));
    records[panel] = {static_cast<uint32_t>(first), base};
  });
  reinterpret_cast<Header*>(start)->is_whole = num_exceptions <= places.num_exceptions ? 1 : 0;
}

bool is_coded_at(const void* memory) { return static_cast<const Header*>(memory)->is_whole == 1; }

bool is_sound_coded(const Tensor& matrix, const void* memory) {
  if (!is_coded_at(memory)) return true;
  const Places places(matrix);
  const char* start = static_cast<const char*>(memory);
  const auto* records = reinterpret_cast<const PanelRecord*>(start + kAlignment);
  const auto* exceptions = reinterpret_cast<const CodedException*>(start + places.exceptions);
  for (int64_t panel = 0; panel < places.num_panels; panel++) {
    int64_t at = records[panel].first_exception;
    for (; at < places.num_exceptions && exceptions[at].block != kNoBlock; at++) {
      const CodedException& found = exceptions[at];
      if (found.block >= places.blocks_per_panel || found.place >= kCodedElements) return false;
    }
    if (at >= places.num_exceptions) return false;
  }
  return true;
}

Tensor coded_at(const Tensor& matrix, const void* memory) {
  Tensor coded = matrix;
  coded.data = memory;
  coded.in_panels = true;
  coded.is_coded = true;
  return coded;
}

CodedPanel coded_panel(const Tensor& matrix, int64_t panel) {
  const Places places(matrix);
  const char* start = static_cast<const char*>(matrix.data);
  const PanelRecord& record = reinterpret_cast<const PanelRecord*>(start + kAlignment)[panel];
  const char* blocks = start + places.blocks + panel * places.blocks_per_panel * kCodedBytes;
  const auto* exceptions = reinterpret_cast<const CodedException*>(start + places.exceptions);
  return {reinterpret_cast<const uint8_t*>(blocks), exceptions + record.first_exception, record.base};
}

void read_coded_row(const Tensor& matrix, int64_t row, uint16_t* to) {
  const CodedPanel panel = coded_panel(matrix, row / kPanelRows);
  const int64_t num_blocks = coded_blocks(matrix.cols);
  const int output = static_cast<int>(row % kPanelRows);
  const uint8_t* block = panel.blocks;
  for (int64_t b = 0; b < num_blocks; b++, block += kCodedBytes) {
    for (int input = 0; input < kCodedInputs; input++) {
      const int line = input / 2, element = 2 * output + input % 2;
      uint16_t codes;
      std::memcpy(&codes, block + 2 * element, sizeof codes);
      const uint8_t rest = block[(2 + line) * kCodedLine + element];
      to[b * kCodedInputs + input] = coded_exponent(panel.base, codes >> 4 * line & 15) | coded_rest(rest);
    }
  }
  for (const CodedException* e = panel.exceptions; e->block != kNoBlock; e++) {
    const int element = e->place % kCodedLine;
    if (element / 2 != output) continue;
    to[int64_t{e->block} * kCodedInputs + e->place / kCodedLine * 2 + element % 2] = e->value;
  }
}

}  // namespace quire
