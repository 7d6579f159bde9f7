// The largest entries of each row of q kᵀ with excluded diagonals, on the CPU.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

struct Neighbors {
  Matrix q, k;  // (n, d), (m, d); m < 2^32
  int64_t topk;
  std::vector<int64_t> exclude;  // diagonals j - i to leave out
  int threads;
};

// similarities, indices: (n, topk), contiguous, in descending order; -inf and -1 if fewer are left.
// NaN counts as the largest; ties are by the smallest index.
void nearest_neighbor(const Neighbors& problem, float* similarities, int64_t* indices);

}  // namespace sslkernels::cpu
