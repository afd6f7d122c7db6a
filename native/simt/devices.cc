#include "cuda/devices.h"

namespace quire::cuda {

Devices find_devices() { return {{{"emulator", 9, 0, 1, 0, 0}}, 0, ""}; }

}  // namespace quire::cuda
