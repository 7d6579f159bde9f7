// The input of every kernel over all pairs of rows: the logits scale · q kᵀ + bias, without the
// excluded diagonals.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

struct Pairwise {
  Matrix q, k;  // (n, d), (m, d)
  double scale;
  std::vector<int64_t> exclude;  // diagonals j - i to leave out
  bool symmetric;                // k is q and `exclude` is closed under negation
  int threads;
  double bias = 0;
};

}  // namespace sslkernels::cpu
