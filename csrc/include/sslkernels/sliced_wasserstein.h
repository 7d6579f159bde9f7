// The distance of sliced samples from a normal distribution with its gradient, in one call on the
// CPU. The maths is in sslkernels/primitives/sliced_wasserstein/README.md.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

struct SlicedWasserstein {
  std::vector<Matrix> views;  // each (n, d), of one dtype
  Matrix directions;          // (d, m)
  const float* quantiles;     // (n,), the targets of a view's sorted projections
  int threads;
};

// Returns the mean of squared differences. dz: its gradient, (views, n, d) and contiguous, or null.
double sliced_wasserstein(const SlicedWasserstein& problem, float* dz);

}  // namespace sslkernels::cpu
