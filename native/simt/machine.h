// The emulator's own state: one block at a time, its threads and its shared memory.
#pragma once

#include <setjmp.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "simt/simt.h"

namespace quire::simt {

struct Copy {
  size_t offset;
  const void* from;
};

enum class State { kReady, kAtBarrier, kAtWarp, kAtPhase, kDone };

struct Thread {
  Index index;
  State state = State::kReady;
  void* stack_pointer = nullptr;
  const WarpOperation* operation = nullptr;
  void* arguments = nullptr;
  std::vector<std::vector<Copy>> copies;  // groups, oldest first; the last is still open
  size_t phase_barrier = 0;               // what it waits for, kAtPhase
  int phase_parity = 0;
};

struct Warp {
  std::vector<std::vector<std::function<void()>>> groups;  // of asynchronous work, as a thread's copies
  int num_multiplied = 0;                                  // wgmma
  int registers = 0;                                       // of a thread, 0 as launched
};

struct PhaseBarrier {
  int expected, pending;
  int phase = 0;
};

struct Machine {
  const char* name = "";
  const std::function<void()>* kernel = nullptr;
  Index grid, block, block_at;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  Thread* running = nullptr;
  Warp* meeting = nullptr;  // whose operation is computed
  void* scheduler_stack = nullptr;
  std::vector<unsigned char> shared;
  std::vector<unsigned char> written;
  // Of every 16 bytes: the last thread that wrote there and has not fenced it, + 1.
  std::vector<uint16_t> unfenced;
  std::map<size_t, PhaseBarrier> barriers;
  char* stacks = nullptr;
  uint64_t random = 1;
  std::string error;
  sigjmp_buf escape;
  bool in_kernel = false;
};

extern Machine machine;

uint64_t next_random();
// Ends the running thread's turn.
void yield();
void check_shared(size_t offset, size_t bytes, size_t alignment, const char* what);
// Nothing that a block leaves behind may be wrong. Throws Fault.
void check_warpgroups();

}  // namespace quire::simt
