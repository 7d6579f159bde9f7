// The distance of sliced samples from a normal distribution with its gradient, in one call on the
// CPU. The maths stands in sslkernels/primitives/sliced_wasserstein/README.md.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

struct SlicedWasserstein {
  std::vector<Matrix> views;  // each (n, d), alike
  Matrix directions;          // (d, m)
  const float* quantiles;     // (n,), which the sorted projections of a view are compared with
  int threads;
};

// Returns the mean of squared differences. dz: its gradient, (views, n, d) and contiguous, or null.
double sliced_wasserstein(const SlicedWasserstein& problem, float* dz);

}  // namespace sslkernels::cpu
