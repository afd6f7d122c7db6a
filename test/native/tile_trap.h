// Lets a CPU without AMX run AMX's instructions: it refuses each, and the handler of that signal does what it
// would have done. So what the tests run is the kernels' own machine code.
#pragma once

namespace quire::test {

// From here on, for all threads. Does nothing where the processor is not an x86-64 under Linux. What an AMX
// unit would refuse too ends the process.
void emulate_tile_instructions();

}  // namespace quire::test
