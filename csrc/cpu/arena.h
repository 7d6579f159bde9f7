// Scratch memory that later calls of the same thread reuse: fresh pages cost more than a small
// problem's arithmetic.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace sslkernels::cpu::SSLKERNELS_ISA {

// Within a parallel region.
inline int this_thread() {
#ifdef _OPENMP
  return omp_get_thread_num();
#else
  return 0;
#endif
}

// Scopes of a thread may be nested; each returns its memory at its end.
class Arena {
 public:
  Arena() : block_(mine()), start_(block_.used) {}
  ~Arena() {
    block_.most = std::max(block_.most, block_.used);
    block_.used = start_;
    others_.clear();
    if (start_ == 0 && block_.most > block_.size && block_.most <= kMostKept) {
      block_.data.reset();
      block_.data.reset(new float[block_.most]);
      block_.size = block_.most;
    }
    if (start_ == 0) block_.most = 0;
  }
  Arena(const Arena&) = delete;

  // `count` floats, not initialised, aligned to kAlignment.
  float* take(size_t count) {
    constexpr size_t kAligned = kAlignment / sizeof(float);
    count = (count + kAligned - 1) / kAligned * kAligned + kAligned;
    float* at = block_.data.get() + block_.used;
    block_.used += count;
    if (block_.used > block_.size) {
      others_.emplace_back(new float[count]);
      at = others_.back().get();
    }
    const auto address = reinterpret_cast<uintptr_t>(at);
    return reinterpret_cast<float*>((address + kAlignment - 1) / kAlignment * kAlignment);
  }

 private:
  static constexpr uintptr_t kAlignment = 64;
  static constexpr size_t kMostKept = (32 << 20) / sizeof(float);
  struct Block {
    std::unique_ptr<float[]> data;
    size_t size = 0, used = 0, most = 0;
  };
  static Block& mine() {
    thread_local Block block;
    return block;
  }

  Block& block_;
  const size_t start_;
  std::vector<std::unique_ptr<float[]>> others_;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
