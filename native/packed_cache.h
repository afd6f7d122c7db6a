// Packed weights in a file, so that the next start reads them instead of packing the model's own once more.
//
//   header  128 bytes: what the file is, the version of its form and of the tiles', the key
//   blocks  one for each packed matrix, in the order in which a model opens: 64 bytes with its length and
//           hash, then what place_memory holds, up to the next multiple of 64
//
// The key says what the blocks were made of. Nothing else in the file is believed: where blocks lie and how
// long they are follows from the model, and one that is cut short or changed is packed again. The hash finds
// accidents; it does not keep out who may write to the file, and so to the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "large_page_mapping.h"
#include "model_config.h"
#include "thread_pool.h"

namespace quire {

class PackedCache {
 public:
  // Without a path it does nothing. Never throws for what is or is not in the file: see report().
  explicit PackedCache(const PackedCacheOptions& options);
  ~PackedCache();
  PackedCache(const PackedCache&) = delete;
  PackedCache& operator=(const PackedCache&) = delete;

  // Where the next block lies: in the file as it is mapped, for as long as this object, or in memory that
  // `allocate` gave for it. `is_packed` is false when the file has no such block: then the caller packs it
  // there. The memory stays until finish().
  struct Place {
    void* memory;
    bool is_packed;
  };
  Place next(size_t bytes, const std::function<void*(size_t)>& allocate, ThreadPool& pool);
  // After the last block. Writes the file anew unless every block came from it.
  void finish(ThreadPool& pool);
  // After finish(): what became of the file, for whoever asked for it. Empty when no block was asked for.
  const PackedCacheReport& report() const { return report_; }

 private:
  struct Block {
    void* memory;
    size_t bytes;
  };
  void open_file();
  void map_file();
  void* find_mapped(int64_t start, size_t bytes, ThreadPool& pool) const;
  bool read(void* memory, int64_t start, size_t bytes, ThreadPool& pool) const;
  void write(ThreadPool& pool) const;
  void write_blocks(int file, ThreadPool& pool) const;

  const PackedCacheOptions options_;
  int file_ = -1;
  std::optional<LargePageMapping> mapping_;  // of the file, where that is as fast as memory
  int64_t mapped_bytes_ = 0;
  int64_t end_;          // of the blocks so far
  std::string problem_;  // with the file as it was found
  std::vector<Block> blocks_;
  size_t num_read_ = 0;
  PackedCacheReport report_;
};

}  // namespace quire
