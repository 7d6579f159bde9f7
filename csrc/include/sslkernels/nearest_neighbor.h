// The largest entries of each row of q kᵀ with excluded diagonals, on the CPU.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

struct Neighbors {
  Matrix q, k;  // (n, d), (m, d); m < 2^32
  int64_t topk;
  std::vector<int64_t> exclude;  // diagonals j - i left out
  int threads;
};

// similarities, indices: (n, topk), contiguous, by falling similarity; -inf and -1 where fewer are
// left. NaN counts as the largest; among equals the smallest index comes first.
void nearest_neighbor(const Neighbors& problem, float* similarities, int64_t* indices);

}  // namespace sslkernels::cpu
