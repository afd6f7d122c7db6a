#include "large_page_mapping.h"

#include <sys/mman.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>

namespace quire {

namespace {

// Brings every page, in one call for all of them. Since Linux 5.14; older headers lack its name.
constexpr int kPopulateRead = 22;

// Of the mapping that begins there: its FilePmdMapped in /proc/self/smaps (proc(5)).
size_t bytes_in_large_pages(const void* memory) {
  FILE* maps = fopen("/proc/self/smaps", "re");
  if (maps == nullptr) return 0;
  char line[512];
  uintptr_t start = 0, end = 0;
  size_t kilobytes = 0;
  bool is_ours = false;
  while (kilobytes == 0 && fgets(line, sizeof line, maps) != nullptr) {
    if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &start, &end) == 2) {
      is_ours = start == reinterpret_cast<uintptr_t>(memory);
    } else if (!is_ours || sscanf(line, "FilePmdMapped: %zu kB", &kilobytes) != 1) {
      kilobytes = 0;
    }
  }
  fclose(maps);
  return kilobytes << 10;
}

}  // namespace

LargePageMapping::LargePageMapping(int file, size_t bytes) : reserved_bytes_(bytes + kPage) {
  reserved_ = mmap(nullptr, reserved_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved_ == MAP_FAILED) {
    reserved_ = nullptr;
    return;
  }
  const uintptr_t aligned = (reinterpret_cast<uintptr_t>(reserved_) + kPage - 1) / kPage * kPage;
  void* const data = reinterpret_cast<void*>(aligned);
  if (mmap(data, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) != data) return;
  // What is not in the file cache yet is read into large pages.
  madvise(data, bytes, MADV_HUGEPAGE);
  if (madvise(data, bytes, kPopulateRead) != 0) return;
  // The last page may be a small part of a large one.
  const size_t large = bytes / kPage * kPage;
  if (large > 0 && bytes_in_large_pages(data) >= large / 2) data_ = static_cast<const char*>(data);
}

LargePageMapping::~LargePageMapping() {
  if (reserved_ != nullptr) munmap(reserved_, reserved_bytes_);
}

}  // namespace quire
