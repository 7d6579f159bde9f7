// A rectangle with a short and a long side is split across the long one, a strip for every thread:
// the schedule of blocks needs as many tiles on either side as there are threads.
#pragma once

#include <algorithm>
#include <vector>

#include "exceptions.h"
#include "tile_walk.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

class Strips {
 public:
  explicit Strips(const Pairwise& problem)
      : p_(problem),
        columns_(problem.k.rows >= problem.q.rows),
        longer_(std::max(problem.q.rows, problem.k.rows)),
        shorter_(std::min(problem.q.rows, problem.k.rows)) {
    const int64_t tiles = (shorter_ + kTile - 1) / kTile;
    // all strips' results for the short side together do not exceed the long side
    const int64_t most = std::min<int64_t>(p_.threads, longer_ / std::max<int64_t>(1, shorter_));
    if (!p_.symmetric && tiles < 4 * p_.threads && most >= std::min<int64_t>(p_.threads, tiles))
      count_ = static_cast<int>(std::max<int64_t>(1, most));
  }

  int count() const { return count_; }          // 1: no split
  bool of_columns() const { return columns_; }  // k is split; else q

  // Calls body(strip, its index, its start on the long side) for all strips in parallel.
  template <class Body>
  void for_each(const Body& body) const {
    if (count_ == 1) return body(p_, 0, int64_t{0});
    Exceptions exceptions;
#pragma omp parallel for schedule(static) num_threads(count_)
    for (int t = 0; t < count_; ++t) exceptions.keep([&] { run(t, body); });
    exceptions.rethrow();
  }

// The same with gradients (n, d) and (m, d), either of which may be null: body(…, dq, dk) adds to
// those of its strip. The short side's are added up in the strips' order.
  template <class Body>
  void for_each(float* dq, float* dk, const Body& body) const {
    if (count_ == 1) return body(p_, 0, int64_t{0}, dq, dk);
    const int64_t d = p_.q.cols, size = shorter_ * d;
    float* whole = columns_ ? dq : dk;
    std::vector<float> shares(whole ? size * count_ : 0, 0.0f);
    for_each([&](const Pairwise& strip, int t, int64_t start) {
      float* share = whole ? shares.data() + t * size : nullptr;
      if (columns_) {
        body(strip, t, start, share, from(dk, start * d));
      } else {
        body(strip, t, start, from(dq, start * d), share);
      }
    });
    for (size_t i = 0; i < shares.size(); ++i) whole[i % size] += shares[i];
  }

  // The data at a position on a side; null stays null.
  template <class T>
  static T* from(T* data, int64_t position) {
    return data ? data + position : nullptr;
  }

 private:
  template <class Body>
  void run(int t, const Body& body) const {
    Pairwise strip = p_;
    strip.threads = 1;
    const int64_t start = edge(t);
    Matrix& cut = columns_ ? strip.k : strip.q;
    cut.data = static_cast<const char*>(cut.data) + start * cut.row_stride * item_size(cut.dtype);
    cut.rows = edge(t + 1) - start;
    for (int64_t& offset : strip.exclude) offset += columns_ ? -start : start;
    body(strip, t, start);
  }

  int64_t edge(int t) const {
    const int64_t tiles = (longer_ + kTile - 1) / kTile;
    return std::min(longer_, tiles * t / count_ * kTile);
  }

  const Pairwise& p_;
  bool columns_;
  int64_t longer_, shorter_;
  int count_ = 1;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
