// Random unit vectors on the CPU, each number a function of its index, a step and a seed alone.
#pragma once

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

struct RandomDirections {
  uint64_t seed, step;
  int64_t slices, features;  // features: at most 2^32
  DType dtype;
  int threads;
};

// out: (slices, features), contiguous; each row a direction, of unit length before rounding.
void random_directions(const RandomDirections& problem, void* out);

// One block of Philox4x32-10, in place.
void philox(const uint32_t key[2], uint32_t counter[4]);

}  // namespace sslkernels::cpu
