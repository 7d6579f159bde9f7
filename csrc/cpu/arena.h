// Memory of a kernel's call that the next call of the same thread finds again: fresh pages cost more
// than a small problem's arithmetic.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace sslkernels::cpu::SSLKERNELS_ISA {

class Arena {
 public:
  Arena() : block_(mine()) {}
  ~Arena() {
    if (needed_ <= block_.size || needed_ > kMostKept) return;
    block_.data.reset();
    block_.data.reset(new float[needed_]);
    block_.size = needed_;
  }
  Arena(const Arena&) = delete;

  // `count` floats, not initialised, aligned to kAlignment.
  float* take(size_t count) {
    constexpr size_t kAligned = kAlignment / sizeof(float);
    count = (count + kAligned - 1) / kAligned * kAligned + kAligned;
    const size_t start = needed_;
    needed_ += count;
    float* at = block_.data.get() + start;
    if (needed_ > block_.size) {
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
    size_t size = 0;
  };
  static Block& mine() {
    thread_local Block block;
    return block;
  }

  Block& block_;
  size_t needed_ = 0;
  std::vector<std::unique_ptr<float[]>> others_;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
