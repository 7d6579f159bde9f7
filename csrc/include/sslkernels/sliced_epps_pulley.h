// The Epps-Pulley statistic of random slices, and its gradient, on the CPU.
// The maths is in sslkernels/primitives/sliced_epps_pulley/README.md.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

constexpr int kMostKnots = 64;

// Projections p = z a of every view on every direction, and knots t = k · step, k = 1 … knots.
struct SlicedEppsPulley {
  std::vector<Matrix> views;  // (N, D) each
  Matrix directions;          // (D, M)
  double step;
  int knots;
  int threads;
};

// sums (V, 2, knots, M): over a view's rows, of cos(t p) and of sin(t p).
void sliced_sums(const SlicedEppsPulley& problem, float* sums);

// From the sums over `count` rows, (V, 2, knots, M), to the statistics, (V, M):
// count · Σ weight [(mean cos - e^(-t²/2))² + (mean sin)²]; the sums become the derivative's
// coefficients.
struct SlicedStatistics {
  int64_t views, slices;
  double step, count;
  std::vector<double> weights;  // of each knot
  int threads;
};
void sliced_statistics(const SlicedStatistics& problem, float* sums, float* statistics);

// dz (V, N, D), contiguous, from coefficients and the statistics' own gradients, (V, M).
void sliced_gradient(const SlicedEppsPulley& problem, const float* coefficients,
                     const float* gradients, float* dz);

}  // namespace sslkernels::cpu
