// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/nearest_neighbor.h"

#include <functional>

#include "exceptions.h"
#include "tile.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

constexpr uint32_t kNan = ~0u;

// An entry as one number: larger for a larger similarity, then for a smaller index. NaN is largest.
using Key = uint64_t;

Key to_key(float similarity, int64_t index) {
  uint32_t bits;
  similarity += 0.0f;  // -0 equals 0
  __builtin_memcpy(&bits, &similarity, sizeof bits);
  const uint32_t order = similarity != similarity ? kNan
                         : bits & 0x80000000u     ? ~bits
                                                  : bits | 0x80000000u;
  return Key(order) << 32 | ~static_cast<uint32_t>(index);
}

float similarity_of(Key key) {
  const uint32_t order = static_cast<uint32_t>(key >> 32);
  if (order == kNan) return std::numeric_limits<float>::quiet_NaN();
  return bits_to_float(order & 0x80000000u ? order & 0x7fffffffu : ~order);
}

int64_t index_of(Key key) { return ~static_cast<uint32_t>(key); }

// The largest entries of each row so far, and up to as many further candidates.
class Largest {
 public:
  Largest(int64_t rows, int64_t topk)
      : topk_(topk), keys_(rows * 2 * topk), count_(rows, 0), threshold_(rows, -kInfinity) {}

  // Later entries that are not larger are no candidates.
  float threshold(int64_t row) const { return threshold_[row]; }

  void add(int64_t row, float similarity, int64_t index) {
    Key* keys = keys_.data() + row * 2 * topk_;
    keys[count_[row]++] = to_key(similarity, index);
    if (count_[row] < 2 * topk_) return;
    std::nth_element(keys, keys + topk_ - 1, keys + count_[row], std::greater<Key>());
    count_[row] = topk_;
    const float last = similarity_of(keys[topk_ - 1]);
    threshold_[row] = last == last ? last : kInfinity;  // NaN is always a candidate
  }

  void write(int64_t row, float* similarities, int64_t* indices) {
    Key* keys = keys_.data() + row * 2 * topk_;
    std::sort(keys, keys + count_[row], std::greater<Key>());
    for (int64_t t = 0; t < topk_; ++t) {
      similarities[t] = t < count_[row] ? similarity_of(keys[t]) : -kInfinity;
      indices[t] = t < count_[row] ? index_of(keys[t]) : -1;
    }
  }

 private:
  int64_t topk_;
  std::vector<Key> keys_;
  std::vector<int64_t> count_;
  std::vector<float> threshold_;
};

// Rows [start, end) of the problem, in one thread.
void rows_of(const Neighbors& p, int64_t start, int64_t end, float* similarities,
             int64_t* indices) {
  Workspace w(p.q.cols, false);
  Largest largest(end - start, p.topk);
  for (int64_t j = 0; j < p.k.rows; j += kTile) {
    const int columns = static_cast<int>(std::min<int64_t>(kTile, p.k.rows - j));
    w.pack_columns(p.k, j, columns);
    for (int64_t i = start; i < end; i += kTile) {
      const int rows = static_cast<int>(std::min<int64_t>(kTile, end - i));
      w.multiply(p.q, i, rows, columns, 1.0f, false);
      w.mask(i, j, rows, columns, p.exclude);
      for (int r = 0; r < rows; ++r) {
        const float* products = w.logits + r * kTile;
        for (int c = 0; c < columns; c += kLanes)
          for (uint32_t lanes = not_at_most(load(products + c), largest.threshold(i - start + r));
               lanes != 0; lanes &= lanes - 1) {
            const int at = c + __builtin_ctz(lanes);
            largest.add(i - start + r, products[at], j + at);
          }
      }
    }
  }
  for (int64_t i = start; i < end; ++i)
    largest.write(i - start, similarities + i * p.topk, indices + i * p.topk);
}

}  // namespace

void nearest_neighbor(const Neighbors& problem, float* similarities, int64_t* indices) {
  const int64_t strips = (problem.q.rows + kMicroRows - 1) / kMicroRows;
  const int threads = static_cast<int>(std::clamp<int64_t>(problem.threads, 1, strips));
  const auto edge = [&](int64_t part) {
    return std::min(problem.q.rows, strips * part / threads * kMicroRows);
  };
  Exceptions exceptions;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int t = 0; t < threads; ++t)
    exceptions.keep([&] { rows_of(problem, edge(t), edge(t + 1), similarities, indices); });
  exceptions.rethrow();
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
