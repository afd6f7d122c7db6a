// A file as memory, in large pages. Linux keeps files in large pages where the file system can (ext4
// since 6.16, XFS since 5.18) and they were written or read in pieces as large; then nothing needs to be
// copied, processes share them, and memory that runs short takes them back.
#pragma once

#include <cstddef>

namespace quire {

class LargePageMapping {
 public:
  static constexpr size_t kPage = size_t{2} << 20;

  // The first `bytes` of an open file, read-only. Empty when the system cannot map them, or more than half
  // would be in small pages: then weights are better read into memory.
  LargePageMapping(int file, size_t bytes);
  ~LargePageMapping();
  LargePageMapping(const LargePageMapping&) = delete;
  LargePageMapping& operator=(const LargePageMapping&) = delete;

  // nullptr when it is empty. Whoever cuts the file short meanwhile ends this process.
  const char* data() const { return data_; }

 private:
  void* reserved_ = nullptr;  // [bytes + kPage], in which data_ is aligned
  size_t reserved_bytes_ = 0;
  const char* data_ = nullptr;
};

}  // namespace quire
