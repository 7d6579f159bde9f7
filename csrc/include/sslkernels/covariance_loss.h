// Barlow Twins, VICReg and VIbCReg with their gradients, in one call on the CPU.
// The maths is in sslkernels/primitives/covariance_loss/README.md.
#pragma once

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

// For columns that are centred, or also divided by a deviation. C = âᵀ b̂ (cross), or C = x̂ᵀ x̂
// for each view. The loss is the weighted sum of the terms.
struct CovarianceLoss {
  Matrix a, b;  // (n, d)
  bool cross;
  bool standardized;  // by √(variance + eps) + outer_eps, with the variance over n - correction
  double eps, correction, outer_eps;
  double off_diagonal;  // Σ_{i≠j} C_ij²
  double diagonal;      // Σ_i (C_ii / n - 1)², if cross
  double variance;  // Σ_j max(0, 1 - √(unbiased variance of column j + variance_eps)), each view's
  double variance_eps;
  double distance;  // Σ (a - b)²
  bool samples;     // through the Grams â âᵀ, (n, n), instead of C, (d, d)
  int threads;
};

// Returns the loss. da and db, (n, d) and contiguous, receive its gradients; either may be null.
double covariance_loss(const CovarianceLoss& problem, float* da, float* db);

}  // namespace sslkernels::cpu
