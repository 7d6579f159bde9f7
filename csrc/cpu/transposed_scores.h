// Scores of few rows and many columns without gradients, stored transposed: products then transpose
// the few rows, and the many are read in the order of memory.
#pragma once

#include <vector>

#include "score_matrix.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

class TransposedScores {
 public:
  TransposedScores(const Rows& q, const Rows& k, double scale, double bias,
                   const std::vector<int64_t>& exclude, bool shifted, int threads, Arena& arena,
                   bool together)
      : exclude_(negative(exclude)),
        scores_(k, q, false, scale, bias, exclude_, shifted, threads, arena, together) {}

  void logsumexp(std::vector<double>& rows, std::vector<double>&, bool) {
    std::vector<double> unused;
    scores_.logsumexp(unused, rows, true);
    many_ = unused.size();
  }
  void weigh(const Sides& row, const Sides&) {
    scores_.weigh({std::vector<float>(many_, kInfinity), std::vector<float>(many_, 0.0f)}, row);
  }
  std::pair<double, double> softplus_sum(float factor, bool weights) {
    return scores_.softplus_sum(factor, weights);
  }
  template <class Body>
  void row_gradients(const Body& body) {
    scores_.column_gradients(body);
  }
  template <class Body>
  void column_gradients(const Body& body) {
    scores_.row_gradients(body);
  }

 private:
  static std::vector<int64_t> negative(std::vector<int64_t> x) {
    for (int64_t& offset : x) offset = -offset;
    return x;
  }
  std::vector<int64_t> exclude_;
  ScoreMatrix scores_;
  size_t many_ = 0;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
