#include "tile_trap.h"

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "float16.h"

namespace quire::test {

namespace {

constexpr int kTiles = 8, kRows = 16, kRowBytes = 64;

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "tile instruction: %s\n", what);
  std::abort();
}

// Intel's Architecture Software Developer's Manual, volume 2: rows of bytes, as far as the shape goes.
struct Tile {
  int rows = 0;
  int row_bytes = 0;
  uint8_t row[kRows][kRowBytes] = {};

  template <typename T>
  T at(int m, int i) const {
    T value;
    std::memcpy(&value, row[m] + i * sizeof(T), sizeof(T));
    return value;
  }
  template <typename T>
  void put(int m, int i, T value) {
    std::memcpy(row[m] + i * sizeof(T), &value, sizeof(T));
  }
  int sums() const { return row_bytes / 4; }
};

thread_local Tile tiles[kTiles];
thread_local bool has_shapes = false;

Tile& tile(int i) {
  require(has_shapes && tiles[i].rows > 0, "a tile without a shape");
  return tiles[i];
}

// One instruction in VEX's three-byte form, map 0f38.
struct Instruction {
  enum Prefix { kNone, k66, kF3, kF2 };

  int prefix, opcode;
  int reg, rm, third;  // ModRM.reg, ModRM.rm and VEX.vvvv
  bool has_memory;
  char* base;      // with a displacement
  int64_t stride;  // the index
  int length;
};

int64_t register_value(const ucontext_t& context, int number) {
  constexpr int kOrder[] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return context.uc_mcontext.gregs[kOrder[number]];
}

Instruction decode(const ucontext_t& context) {
  const auto* code = reinterpret_cast<const uint8_t*>(context.uc_mcontext.gregs[REG_RIP]);
  require(code[0] == 0xc4 && (code[1] & 31) == 2 && (code[2] & 0x84) == 0, "not one of AMX's");
  const int mod = code[4] >> 6;
  Instruction in = {
      code[2] & 3, code[3], code[4] >> 3 & 7, code[4] & 7, ~code[2] >> 3 & 15, mod != 3, nullptr, 0, 5};
  if (!in.has_memory) return in;
  const int high_base = ~code[1] >> 2 & 8, high_index = ~code[1] >> 3 & 8;
  int base = in.rm;
  if (in.rm == 4) {
    const uint8_t sib = code[in.length++];
    base = sib & 7;
    const int index = (sib >> 3 & 7) | high_index;
    if (index != 4) in.stride = register_value(context, index) << (sib >> 6);
  }
  require(mod != 0 || base != 5, "an address without a base");
  int64_t displacement = 0;
  if (mod == 1) displacement = static_cast<int8_t>(code[in.length++]);
  if (mod == 2) {
    int32_t four;
    std::memcpy(&four, code + in.length, 4);
    displacement = four;
    in.length += 4;
  }
  in.base = reinterpret_cast<char*>(register_value(context, base | high_base) + displacement);
  return in;
}

void load_shapes(const char* config) {
  require(config[0] == 1 && config[1] == 0, "a palette that is not 1");
  for (int i = 2; i < 16; i++) require(config[i] == 0, "a reserved byte that is not 0");
  for (int i = 0; i < 16; i++) {
    uint16_t row_bytes;
    std::memcpy(&row_bytes, config + 16 + 2 * i, 2);
    const int rows = static_cast<uint8_t>(config[48 + i]);
    require(rows <= kRows && row_bytes <= kRowBytes && (rows == 0) == (row_bytes == 0),
            "a shape that is none");
    require(i < kTiles || rows == 0, "a ninth tile");
    if (i < kTiles) {
      tiles[i] = {};
      tiles[i].rows = rows;
      tiles[i].row_bytes = row_bytes;
    }
  }
  has_shapes = true;
}

void clear(Tile& t) { std::memset(t.row, 0, sizeof(t.row)); }

void load(Tile& t, const char* from, int64_t stride) {
  clear(t);
  for (int m = 0; m < t.rows; m++) std::memcpy(t.row[m], from + m * stride, t.row_bytes);
}

void store(const Tile& t, char* to, int64_t stride) {
  for (int m = 0; m < t.rows; m++) std::memcpy(to + m * stride, t.row[m], t.row_bytes);
}

// TDPBSUD: signed bytes by unsigned ones.
void dot_int8(Tile& sums, const Tile& a, const Tile& b) {
  for (int m = 0; m < sums.rows; m++) {
    for (int n = 0; n < sums.sums(); n++) {
      int32_t sum = sums.at<int32_t>(m, n);
      for (int k = 0; k < a.row_bytes; k++) {
        sum += int32_t{a.at<int8_t>(m, k)} * b.at<uint8_t>(k / 4, 4 * n + k % 4);
      }
      sums.put(m, n, sum);
    }
  }
}

// Numbers below the normal ones are 0, before and after.
float flushed(float x) { return std::fabs(x) < 0x1.0p-126f ? std::copysign(0.0f, x) : x; }

// TDPBF16PS: a chain for the even inputs, one for the odd ones, both from 0.
void dot_bf16(Tile& sums, const Tile& a, const Tile& b) {
  const auto number = [](const Tile& t, int m, int i) {
    return flushed(bf16_to_float(t.at<uint16_t>(m, i)));
  };
  for (int m = 0; m < sums.rows; m++) {
    for (int n = 0; n < sums.sums(); n++) {
      float chains[2] = {0, 0};
      for (int k = 0; k < a.row_bytes / 2; k++) {
        chains[k % 2] = flushed(std::fma(number(a, m, k), number(b, k / 2, 2 * n + k % 2), chains[k % 2]));
      }
      sums.put(m, n, flushed(flushed(sums.at<float>(m, n)) + flushed(chains[0] + chains[1])));
    }
  }
}

void multiply(const Instruction& in, void (*dot)(Tile&, const Tile&, const Tile&)) {
  require(in.reg != in.rm && in.rm != in.third && in.reg != in.third, "a tile used twice");
  Tile &sums = tile(in.reg), &a = tile(in.rm), &b = tile(in.third);
  require(sums.rows == a.rows && sums.row_bytes == b.row_bytes, "sums of another shape");
  require(a.row_bytes == 4 * b.rows && b.row_bytes % 4 == 0, "factors that do not fit");
  dot(sums, a, b);
}

void run(const Instruction& in) {
  const int what = in.prefix << 8 | in.opcode;
  const bool has_rows = in.has_memory && in.rm == 4;
  if (what == 0x049 && in.has_memory) return load_shapes(in.base);
  if (what == 0x049 && in.reg == 0 && in.rm == 0) {
    for (Tile& t : tiles) t = {};
    has_shapes = false;
    return;
  }
  if (what == (Instruction::kF2 << 8 | 0x49) && !in.has_memory) return clear(tile(in.reg));
  if (what == (Instruction::kF2 << 8 | 0x4b) && has_rows) return load(tile(in.reg), in.base, in.stride);
  if (what == (Instruction::kF3 << 8 | 0x4b) && has_rows) return store(tile(in.reg), in.base, in.stride);
  if (what == (Instruction::kF3 << 8 | 0x5e) && !in.has_memory) return multiply(in, dot_int8);
  if (what == (Instruction::kF3 << 8 | 0x5c) && !in.has_memory) return multiply(in, dot_bf16);
  require(false, "one that the kernels do not need");
}

void handle(int, siginfo_t*, void* state) {
  auto& context = *static_cast<ucontext_t*>(state);
  const Instruction in = decode(context);
  run(in);
  context.uc_mcontext.gregs[REG_RIP] += in.length;
}

}  // namespace

void emulate_tile_instructions() {
  struct sigaction action = {};
  action.sa_sigaction = handle;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace quire::test

#else

namespace quire::test {

void emulate_tile_instructions() {}

}  // namespace quire::test

#endif
