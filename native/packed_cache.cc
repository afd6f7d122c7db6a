#include "packed_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "weight_tiles.h"

namespace quire {

namespace {

constexpr int64_t kAlignment = 64;
// Small enough to be hashed while it is in the cache that it was read into.
constexpr size_t kPieceBytes = 256 << 10;

struct FileHeader {
  char name[16] = "quire packed";
  uint32_t form = 1;
  uint32_t tiles = kTileForm;
  char key[64] = {};
  char rest[40] = {};
};
static_assert(sizeof(FileHeader) == 128, "no byte of it is undefined");

struct BlockHeader {
  uint64_t bytes;
  uint64_t hash;
  char rest[48];
};
static_assert(sizeof(BlockHeader) == kAlignment, "blocks stay aligned");

FileHeader header_for(const PackedCacheOptions& options) {
  FileHeader header;
  std::memcpy(header.key, options.key.data(), std::min(options.key.size(), sizeof header.key));
  return header;
}

int64_t space_of(size_t bytes) {
  const auto data = static_cast<int64_t>(bytes);
  return static_cast<int64_t>(sizeof(BlockHeader)) + (data + kAlignment - 1) / kAlignment * kAlignment;
}

// Each step is a bijection of the word, so that one changed word always changes the result. Four sums, so
// that a multiplication need not wait for the one before.
uint64_t hash_of(const void* data, size_t bytes) {
  constexpr uint64_t kFactor = 0x9e3779b97f4a7c15;
  constexpr size_t kSums = 4;
  const auto mix = [](uint64_t sum, uint64_t word) {
    const uint64_t product = (sum ^ word) * kFactor;
    return product ^ product >> 29;
  };
  uint64_t sums[kSums] = {1, 2, 3, 4};
  const auto* from = static_cast<const char*>(data);
  size_t at = 0;
  for (; at + sizeof sums <= bytes; at += sizeof sums) {
    uint64_t words[kSums];
    std::memcpy(words, from + at, sizeof words);
    for (size_t i = 0; i < kSums; i++) sums[i] = mix(sums[i], words[i]);
  }
  uint64_t rest[kSums] = {};
  std::memcpy(rest, from + at, bytes - at);
  for (size_t i = 0; i < kSums; i++) sums[i] = mix(sums[i], rest[i]);
  uint64_t hash = bytes;
  for (const uint64_t sum : sums) hash = mix(hash, sum);
  return hash;
}

// `bring(to, offset, bytes)` makes a piece readable, false when it cannot. 0 then, else the block's hash.
template <typename Bring>
uint64_t hash_pieces(const void* memory, size_t bytes, ThreadPool& pool, const Bring& bring) {
  std::vector<uint64_t> hashes((bytes + kPieceBytes - 1) / kPieceBytes);
  std::atomic<bool> is_whole{true};
  pool.parallel_for(static_cast<int64_t>(hashes.size()), [&](int64_t piece, int) {
    const size_t offset = static_cast<size_t>(piece) * kPieceBytes;
    const size_t piece_bytes = std::min(kPieceBytes, bytes - offset);
    if (!bring(offset, piece_bytes)) {
      is_whole = false;
      return;
    }
    hashes[piece] = hash_of(static_cast<const char*>(memory) + offset, piece_bytes);
  });
  const uint64_t hash = hash_of(hashes.data(), hashes.size() * sizeof hashes[0]);
  return is_whole ? std::max<uint64_t>(1, hash) : 0;
}

// For what lies in memory already.
bool is_there(size_t, size_t) { return true; }

bool read_at(int file, void* to, size_t bytes, int64_t offset) {
  for (size_t done = 0; done < bytes;) {
    const ssize_t count =
        pread(file, static_cast<char*>(to) + done, bytes - done, offset + static_cast<int64_t>(done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += static_cast<size_t>(count);
  }
  return true;
}

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

// From the front to the end, in pieces of a large page each: so the system keeps the file in large pages too.
class PieceWriter {
 public:
  explicit PieceWriter(int file) : file_(file), piece_(LargePageMapping::kPage) {}

  void add(const void* from, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
      const size_t part = std::min(bytes - done, piece_.size() - filled_);
      std::memcpy(piece_.data() + filled_, static_cast<const char*>(from) + done, part);
      done += part;
      filled_ += part;
      if (filled_ == piece_.size()) flush();
    }
  }

  void flush() {
    for (size_t done = 0; done < filled_;) {
      const ssize_t count = write(file_, piece_.data() + done, filled_ - done);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail("it cannot be written");
      done += static_cast<size_t>(count);
    }
    filled_ = 0;
  }

 private:
  const int file_;
  std::vector<char> piece_;
  size_t filled_ = 0;
};

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  const int number_;
};

// The unfinished file, for this process alone. Throws when another one writes it.
void lock_part(int file, const std::string& part) {
  if (flock(file, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) throw std::runtime_error("another process is writing it");
    fail("it cannot be locked");
  }
  // Whoever had it until now may have given it its final name.
  struct stat opened, named;
  if (fstat(file, &opened) != 0 || stat(part.c_str(), &named) != 0 || opened.st_ino != named.st_ino) {
    throw std::runtime_error("another process has just written it");
  }
}

void sync_folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const Descriptor file(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (file.number() >= 0) fsync(file.number());
}

std::string megabytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f MB", static_cast<double>(bytes) / 1e6);
  return text;
}

}  // namespace

PackedCache::PackedCache(const PackedCacheOptions& options) : options_(options), end_(sizeof(FileHeader)) {
  if (!options_.path.empty()) open_file();
}

PackedCache::~PackedCache() {
  if (file_ >= 0) close(file_);
}

void PackedCache::open_file() {
  // Not to wait for the other end of a pipe.
  const int file = open(options_.path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) {
    if (errno != ENOENT) problem_ = std::string("cannot be read (") + std::strerror(errno) + ")";
    return;
  }
  const FileHeader expected = header_for(options_);
  FileHeader found;
  if (!read_at(file, &found, sizeof found, 0) ||
      std::memcmp(found.name, expected.name, sizeof found.name) != 0) {
    problem_ = "is not a file of packed weights";
  } else if (std::memcmp(&found, &expected, sizeof found) != 0) {
    problem_ = "was made of another model, with other flags or by another version";
  } else {
    file_ = file;
    map_file();
    return;
  }
  close(file);
}

void PackedCache::map_file() {
  struct stat found;
  if (fstat(file_, &found) != 0) return;
  mapping_.emplace(file_, static_cast<size_t>(found.st_size));
  if (mapping_->data() == nullptr) mapping_.reset();
  mapped_bytes_ = found.st_size;
}

PackedCache::Place PackedCache::next(size_t bytes, const std::function<void*(size_t)>& allocate,
                                     ThreadPool& pool) {
  const int64_t start = end_;
  end_ += space_of(bytes);
  void* memory = find_mapped(start, bytes, pool);
  bool is_packed = memory != nullptr;
  if (memory == nullptr) {
    memory = allocate(bytes);
    is_packed = read(memory, start, bytes, pool);
  }
  if (!options_.path.empty()) blocks_.push_back({memory, bytes});
  if (is_packed) num_read_++;
  return {memory, is_packed};
}

// nullptr when it is not there as it was written.
void* PackedCache::find_mapped(int64_t start, size_t bytes, ThreadPool& pool) const {
  const int64_t end = start + static_cast<int64_t>(sizeof(BlockHeader) + bytes);
  if (!mapping_ || end > mapped_bytes_) return nullptr;
  BlockHeader header;
  std::memcpy(&header, mapping_->data() + start, sizeof header);
  const char* data = mapping_->data() + start + sizeof header;
  if (header.bytes != bytes || hash_pieces(data, bytes, pool, is_there) != header.hash) return nullptr;
  return const_cast<char*>(data);
}

bool PackedCache::read(void* memory, int64_t start, size_t bytes, ThreadPool& pool) const {
  BlockHeader header;
  if (file_ < 0 || mapping_ || !read_at(file_, &header, sizeof header, start) || header.bytes != bytes) {
    return false;
  }
  const int64_t data = start + static_cast<int64_t>(sizeof header);
  const uint64_t hash = hash_pieces(memory, bytes, pool, [&](size_t offset, size_t piece_bytes) {
    return read_at(file_, static_cast<char*>(memory) + offset, piece_bytes,
                   data + static_cast<int64_t>(offset));
  });
  return hash == header.hash;
}

void PackedCache::finish(ThreadPool& pool) {
  if (blocks_.empty()) return;
  const std::string& path = options_.path;
  if (num_read_ == blocks_.size()) {
    report_ = {false, "read the packed weights from " + path};
    return;
  }
  if (file_ >= 0) {
    problem_ = "is damaged (" + std::to_string(blocks_.size() - num_read_) + " of " +
               std::to_string(blocks_.size()) + " matrices)";
  }
  const std::string before = problem_.empty() ? "" : path + " " + problem_ + ": ";
  try {
    write(pool);
    report_ = {!problem_.empty(),
               before + "packed the weights and wrote them to " + path + " (" + megabytes(end_) + ")"};
  } catch (const std::exception& error) {
    report_ = {true, before + "packed the weights without keeping them in " + path + ": " + error.what()};
  }
}

void PackedCache::write(ThreadPool& pool) const {
  const std::string part = options_.path + ".part";
  // Through a pipe, a device or a link there is no way back to a plain file.
  struct stat there;
  if (lstat(options_.path.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    throw std::runtime_error("it is not a plain file");
  }
  const Descriptor file(open(part.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, options_.mode));
  if (file.number() < 0) fail("it cannot be written");
  lock_part(file.number(), part);
  try {
    if (ftruncate(file.number(), 0) != 0 || fchmod(file.number(), options_.mode) != 0) {
      fail("it cannot be written");
    }
    write_blocks(file.number(), pool);
    if (fsync(file.number()) != 0 || rename(part.c_str(), options_.path.c_str()) != 0) {
      fail("it cannot be written");
    }
  } catch (...) {
    unlink(part.c_str());
    throw;
  }
  sync_folder_of(options_.path);
}

void PackedCache::write_blocks(int file, ThreadPool& pool) const {
  const char padding[kAlignment] = {};
  const FileHeader header = header_for(options_);
  PieceWriter writer(file);
  writer.add(&header, sizeof header);
  for (const Block& block : blocks_) {
    const uint64_t hash = hash_pieces(block.memory, block.bytes, pool, is_there);
    const BlockHeader block_header = {block.bytes, hash, {}};
    writer.add(&block_header, sizeof block_header);
    writer.add(block.memory, block.bytes);
    writer.add(padding, space_of(block.bytes) - sizeof block_header - block.bytes);
  }
  writer.flush();
}

}  // namespace quire
