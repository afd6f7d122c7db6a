#include "simt/simt.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "simt/machine.h"

// Saves the callee's registers and the stack pointer, and goes on where another stack was left.
extern "C" void quire_simt_switch(void** save, void* load);
asm(R"(
.text
.globl quire_simt_switch
.type quire_simt_switch, @function
quire_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size quire_simt_switch, .-quire_simt_switch
)");

namespace quire::simt {

Machine machine;

uint64_t next_random() {
  uint64_t& x = machine.random;
  x ^= x << 13;
  x ^= x >> 7;
  return x ^= x << 17;
}

void yield() { quire_simt_switch(&machine.running->stack_pointer, machine.scheduler_stack); }

namespace {

constexpr size_t kStackBytes = 128 << 10;
constexpr int kMaxThreads = 1024;

std::string place() {
  const Index& b = machine.block_at;
  std::string text = std::string(machine.name) + ", block " + std::to_string(b.x) + " " +
                     std::to_string(b.y) + " " + std::to_string(b.z);
  if (machine.running != nullptr)
    text += ", thread " + std::to_string(machine.running - machine.threads.data());
  return text;
}

void run_thread() {
  try {
    (*machine.kernel)();
  } catch (const std::exception& error) {
    machine.error = error.what();
  }
  machine.running->state = State::kDone;
  yield();
}

char* stack_of(int thread) {
  if (machine.stacks == nullptr) {
    void* memory = mmap(nullptr, kStackBytes * kMaxThreads, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    machine.stacks = static_cast<char*>(memory);
  }
  return machine.stacks + kStackBytes * thread;
}

void start(Thread& thread, int i) {
  void** top = reinterpret_cast<void**>(stack_of(i) + kStackBytes) - 2;
  *top = reinterpret_cast<void*>(&run_thread);
  // Six saved registers lie below the return address.
  thread.stack_pointer = top - 6;
  std::fill(top - 6, top, nullptr);
  thread.copies.assign(1, {});
}

void resume(Thread& thread) {
  machine.running = &thread;
  quire_simt_switch(&machine.scheduler_stack, thread.stack_pointer);
  machine.running = nullptr;
  if (!machine.error.empty()) throw Fault(machine.error);
}

// Whether the warp's lanes all wait for the same operation; it is then done.
bool finish_warp_operation(Thread* lanes, int count) {
  void* arguments[kWarpSize] = {};
  for (int i = 0; i < count; i++) {
    if (lanes[i].state != State::kAtWarp || lanes[i].operation != lanes[0].operation) return false;
    arguments[i] = lanes[i].arguments;
  }
  if (count < kWarpSize)
    throw Fault(place() + ": " + lanes[0].operation->name + " in a warp that is not whole");
  machine.meeting = &machine.warps[static_cast<size_t>(lanes - machine.threads.data()) / kWarpSize];
  lanes[0].operation->compute(arguments);
  for (int i = 0; i < count; i++) lanes[i].state = State::kReady;
  return true;
}

[[noreturn]] void report_stuck() {
  int done = 0, barrier = 0, warp = 0, phase = 0;
  const char* operation = "";
  for (const Thread& thread : machine.threads) {
    done += thread.state == State::kDone;
    barrier += thread.state == State::kAtBarrier;
    phase += thread.state == State::kAtPhase;
    if (thread.state == State::kAtWarp) {
      warp++;
      operation = thread.operation->name;
    }
  }
  throw Fault(place() + ": divergence: " + std::to_string(barrier) + " threads wait at a barrier, " +
              std::to_string(warp) + " for their warp (" + operation + "), " + std::to_string(phase) +
              " for a phase, " + std::to_string(done) + " have ended");
}

// Runs every thread as far as it goes; false when all are done.
bool run_phase(std::vector<int>& warps) {
  std::vector<Thread>& threads = machine.threads;
  for (size_t i = warps.size(); i > 1; i--) std::swap(warps[i - 1], warps[next_random() % i]);
  bool ran = false;
  for (int warp : warps) {
    Thread* lanes = &threads[warp * kWarpSize];
    const int count = std::min<int>(kWarpSize, static_cast<int>(threads.size()) - warp * kWarpSize);
    bool again = true;
    while (again) {
      for (int i = 0; i < count; i++) {
        if (lanes[i].state != State::kReady) continue;
        resume(lanes[i]);
        ran = true;
      }
      again = finish_warp_operation(lanes, count);
    }
  }
  const auto in = [&](State state) {
    return std::all_of(threads.begin(), threads.end(), [&](const Thread& t) { return t.state == state; });
  };
  if (in(State::kDone)) return false;
  if (in(State::kAtBarrier)) {
    for (Thread& thread : threads) thread.state = State::kReady;
  } else if (!ran) {
    report_stuck();
  }
  return true;
}

void run_block() {
  const Index& size = machine.block;
  const int count = static_cast<int>(size.x * size.y * size.z);
  machine.threads.assign(count, {});
  std::fill(machine.shared.begin(), machine.shared.end(), 0xff);
  machine.written.assign(machine.shared.size(), 0);
  machine.unfenced.assign(machine.shared.size() / 16 + 1, 0);
  machine.barriers.clear();
  for (int i = 0; i < count; i++) {
    machine.threads[i].index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    start(machine.threads[i], i);
  }
  std::vector<int> warps((count + kWarpSize - 1) / kWarpSize);
  for (size_t i = 0; i < warps.size(); i++) warps[i] = static_cast<int>(i);
  machine.warps.assign(warps.size(), {});
  while (run_phase(warps)) {
  }
  check_warpgroups();
}

void on_segfault(int signal, siginfo_t*, void*) {
  if (!machine.in_kernel) {
    ::signal(signal, SIG_DFL);
    raise(signal);
    return;
  }
  siglongjmp(machine.escape, 1);
}

// The handler runs on a stack of its own: the fiber's may be what broke.
void catch_segfaults() {
  static bool is_set = false;
  if (is_set) return;
  is_set = true;
  static char stack[64 << 10];
  stack_t alternative{};
  alternative.ss_sp = stack;
  alternative.ss_size = sizeof stack;
  sigaltstack(&alternative, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_segfault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

void land(const Copy& copy) {
  static const char zeros[16] = {};
  write_shared(copy.offset, copy.from == nullptr ? zeros : copy.from, 16, 16);
}

size_t page_size() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

struct Allocation {
  char* base;
  size_t bytes;
};
std::map<void*, Allocation>& allocations() {
  static std::map<void*, Allocation> all;
  return all;
}

}  // namespace

void fault(const std::string& what) { throw Fault(place() + ": " + what); }

void check_shared(size_t offset, size_t bytes, size_t alignment, const char* what) {
  if (offset + bytes > machine.shared.size()) {
    fault(std::string(what) + " of shared memory at byte " + std::to_string(offset) + ", the block has " +
          std::to_string(machine.shared.size()));
  }
  if (offset % alignment != 0) {
    fault(std::string(what) + " of shared memory at byte " + std::to_string(offset) + " is not aligned to " +
          std::to_string(alignment));
  }
}

void set_seed(uint64_t seed) { machine.random = seed * 0x9E3779B97F4A7C15u | 1; }

void launch(const char* name, Index grid, Index block, size_t shared_bytes,
            const std::function<void()>& kernel) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || grid.x * grid.y * grid.z == 0) {
    throw Fault(std::string(name) + ": a launch of " + std::to_string(threads) + " threads a block");
  }
  catch_segfaults();
  machine.name = name;
  machine.kernel = &kernel;
  machine.grid = grid;
  machine.block = block;
  machine.shared.resize(shared_bytes);
  machine.error.clear();
  machine.running = nullptr;
  if (sigsetjmp(machine.escape, 1) != 0) {
    machine.in_kernel = false;
    throw Fault(place() + ": device memory is accessed outside its allocations");
  }
  machine.in_kernel = true;
  try {
    for (unsigned z = 0; z < grid.z; z++) {
      for (unsigned y = 0; y < grid.y; y++) {
        for (unsigned x = 0; x < grid.x; x++) {
          machine.block_at = {x, y, z};
          run_block();
        }
      }
    }
  } catch (...) {
    machine.in_kernel = false;
    throw;
  }
  machine.in_kernel = false;
}

void* allocate(size_t bytes) {
  const size_t page = page_size();
  // The end of the memory meets the guard page, but for what 16-byte alignment takes.
  const size_t padded = (bytes + 15) / 16 * 16;
  const size_t body = (padded + page - 1) / page * page;
  void* base = mmap(nullptr, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  char* start = static_cast<char*>(base) + page;
  if (body > 0 && mprotect(start, body, PROT_READ | PROT_WRITE) != 0) throw std::bad_alloc();
  std::memset(start, 0xff, body);
  char* memory = start + body - padded;
  allocations()[memory] = {static_cast<char*>(base), body + 2 * page};
  return memory;
}

void release(void* memory) {
  const auto found = allocations().find(memory);
  if (found == allocations().end()) return;
  munmap(found->second.base, found->second.bytes);
  allocations().erase(found);
}

const Index& thread_index() { return machine.running->index; }
const Index& block_index() { return machine.block_at; }
const Index& block_size() { return machine.block; }
const Index& grid_size() { return machine.grid; }

void block_barrier() {
  machine.running->state = State::kAtBarrier;
  yield();
}

void warp_meet(const WarpOperation& operation, void* arguments) {
  Thread& thread = *machine.running;
  thread.operation = &operation;
  thread.arguments = arguments;
  thread.state = State::kAtWarp;
  yield();
}

void read_shared(void* to, size_t offset, size_t bytes, size_t alignment) {
  check_shared(offset, bytes, alignment, "read");
  for (size_t i = offset; i < offset + bytes; i++) {
    if (!machine.written[i])
      fault("shared memory is read at byte " + std::to_string(i) + " before it is written");
  }
  std::memcpy(to, machine.shared.data() + offset, bytes);
}

void write_shared(size_t offset, const void* from, size_t bytes, size_t alignment) {
  check_shared(offset, bytes, alignment, "write");
  std::memcpy(machine.shared.data() + offset, from, bytes);
  std::fill_n(machine.written.begin() + static_cast<std::ptrdiff_t>(offset), bytes, 1);
  const auto owner = static_cast<uint16_t>(machine.running - machine.threads.data() + 1);
  for (size_t i = offset / 16; i <= (offset + bytes - 1) / 16; i++) machine.unfenced[i] = owner;
}

void copy_async(size_t offset, const void* from) {
  check_shared(offset, 16, 16, "asynchronous write");
  if (reinterpret_cast<uintptr_t>(from) % 16 != 0) fault("an asynchronous copy from an unaligned address");
  if (next_random() % 2 == 0) return land({offset, from});
  // Until it lands the bytes are nobody's.
  std::fill_n(machine.written.begin() + static_cast<std::ptrdiff_t>(offset), 16, 0);
  machine.running->copies.back().push_back({offset, from});
}

void copy_async_commit() { machine.running->copies.emplace_back(); }

void copy_async_wait(int groups_left) {
  auto& copies = machine.running->copies;
  // The last group is the open one, which nothing waits for.
  const size_t keep = static_cast<size_t>(groups_left) + 1;
  while (copies.size() > keep) {
    for (const Copy& copy : copies.front()) land(copy);
    copies.erase(copies.begin());
  }
}

}  // namespace quire::simt
