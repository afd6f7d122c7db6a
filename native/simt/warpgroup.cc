// What sm_90a has beside the rest: work of the tensor cores that goes on behind the program's back, barriers
// in shared memory that count phases, fences between the two ways to shared memory, registers that warps
// hand each other.
#include <algorithm>
#include <cstring>

#include "simt/machine.h"

namespace quire::simt {

namespace {

constexpr int kWarpsPerGroup = 4;
constexpr int kRegisters = 65536;  // of a multiprocessor

int warp_of(const Thread* thread) { return static_cast<int>(thread - machine.threads.data()) / kWarpSize; }

PhaseBarrier& barrier_at(size_t offset) {
  const auto found = machine.barriers.find(offset);
  if (found == machine.barriers.end()) {
    fault("the barrier at byte " + std::to_string(offset) + " is used before it is initialised");
  }
  return found->second;
}

bool has_passed(const PhaseBarrier& barrier, int parity) { return barrier.phase % 2 != parity; }

void run(std::vector<std::vector<std::function<void()>>>& groups, size_t keep) {
  while (groups.size() > keep) {
    for (const auto& work : groups.front()) work();
    groups.erase(groups.begin());
  }
}

}  // namespace

void async_proxy_fence() {
  const auto owner = static_cast<uint16_t>(machine.running - machine.threads.data() + 1);
  std::replace(machine.unfenced.begin(), machine.unfenced.end(), owner, uint16_t{0});
}

void read_shared_async(void* to, size_t offset, size_t bytes, size_t alignment) {
  read_shared(to, offset, bytes, alignment);
  for (size_t i = offset / 16; i <= (offset + bytes - 1) / 16; i++) {
    if (machine.unfenced[i] == 0) continue;
    fault("wgmma reads shared memory at byte " + std::to_string(offset) + ", which thread " +
          std::to_string(machine.unfenced[i] - 1) + " wrote without a fence");
  }
}

void warp_async(std::function<void()> work) {
  auto& groups = machine.meeting->groups;
  if (groups.empty()) groups.emplace_back();
  machine.meeting->num_multiplied++;
  groups.back().push_back(std::move(work));
  // They are done in their order.
  if (next_random() % 2 == 0) {
    for (auto& group : groups) {
      for (const auto& one : group) one();
      group.clear();
    }
  }
}

void warp_async_commit() {
  auto& groups = machine.meeting->groups;
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}

// The last group is the open one, which nothing waits for.
void warp_async_wait(int groups_left) { run(machine.meeting->groups, static_cast<size_t>(groups_left) + 1); }

void barrier_init(size_t offset, int count) {
  check_shared(offset, 8, 8, "barrier");
  if (count < 1) fault("a barrier for " + std::to_string(count) + " arrivals");
  machine.barriers[offset] = {count, count};
}

void barrier_arrive(size_t offset) {
  PhaseBarrier& barrier = barrier_at(offset);
  if (--barrier.pending == 0) {
    barrier.pending = barrier.expected;
    barrier.phase++;
    for (Thread& thread : machine.threads) {
      if (thread.state == State::kAtPhase && thread.phase_barrier == offset &&
          has_passed(barrier, thread.phase_parity)) {
        thread.state = State::kReady;
      }
    }
  }
  // Others may go on before this thread does.
  if (next_random() % 2 == 0) yield();
}

void barrier_wait(size_t offset, int parity) {
  if (has_passed(barrier_at(offset), parity)) return;
  machine.running->state = State::kAtPhase;
  machine.running->phase_barrier = offset;
  machine.running->phase_parity = parity;
  yield();
}

void set_registers(int count) {
  if (count < 24 || count > 256 || count % 8 != 0) {
    fault("setmaxnreg to " + std::to_string(count) + " registers");
  }
  machine.warps[static_cast<size_t>(warp_of(machine.running))].registers = count;
}

void check_warpgroups() {
  const auto& warps = machine.warps;
  const int launched = kRegisters / static_cast<int>(machine.threads.size()) / 8 * 8;
  int registers = 0;
  for (size_t i = 0; i < warps.size(); i++) {
    const size_t group = i / kWarpsPerGroup * kWarpsPerGroup;
    const Warp& first = warps[group];
    const bool is_whole = group + kWarpsPerGroup <= warps.size() || first.num_multiplied == 0;
    if (!is_whole || warps[i].num_multiplied != first.num_multiplied ||
        warps[i].registers != first.registers) {
      fault("the warps of a warpgroup do not call wgmma or setmaxnreg as one");
    }
    const auto has_work = [](const auto& group) { return !group.empty(); };
    if (std::any_of(warps[i].groups.begin(), warps[i].groups.end(), has_work)) {
      fault("a warp ends before its wgmma does");
    }
    registers += kWarpSize * (warps[i].registers == 0 ? std::min(launched, 255) : warps[i].registers);
  }
  const bool asks = std::any_of(warps.begin(), warps.end(), [](const Warp& w) { return w.registers > 0; });
  if (asks && registers > launched * static_cast<int>(machine.threads.size())) {
    fault("setmaxnreg to " + std::to_string(registers) + " registers of a block, it was launched with " +
          std::to_string(launched * static_cast<int>(machine.threads.size())));
  }
}

}  // namespace quire::simt
