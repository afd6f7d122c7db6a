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
#include <string>
#include <vector>

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

  // The next block, from the file to where it belongs. False when it is not there as it was written: then the
  // caller packs it. The memory stays until finish().
  bool read(void* memory, size_t bytes, ThreadPool& pool);
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
  void write(ThreadPool& pool) const;
  void write_blocks(int file, ThreadPool& pool) const;

  const PackedCacheOptions options_;
  int file_ = -1;
  int64_t end_;          // of the blocks so far
  std::string problem_;  // with the file as it was found
  std::vector<Block> blocks_;
  size_t num_read_ = 0;
  PackedCacheReport report_;
};

}  // namespace quire
