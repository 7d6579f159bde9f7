// Row sums of softplus(scale · q kᵀ + bias) without excluded diagonals, on the CPU.
// The maths is in sslkernels/primitives/pairwise_softplus/README.md.
#pragma once

#include "sslkernels/pairwise.h"

namespace sslkernels::cpu {

// rows: (n). The problem is not symmetric.
void pairwise_softplus_forward(const Pairwise& problem, float* rows);

// dq (n, d) and dk (m, d), contiguous and zero on entry, receive the gradients of q and k, not yet
// multiplied by the scale; either may be null. row_sigma (n) receives row_gradient_i · Σ_j σ(s_ij).
void pairwise_softplus_backward(const Pairwise& problem, const float* row_gradient, float* dq,
                                float* dk, float* row_sigma);

}  // namespace sslkernels::cpu
