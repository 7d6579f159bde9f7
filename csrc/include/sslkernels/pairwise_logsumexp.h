// Row and column log-sum-exp of scale · q kᵀ with excluded diagonals, on the CPU.
// The maths is in sslkernels/primitives/pairwise_logsumexp/README.md.
#pragma once

#include "sslkernels/pairwise.h"

namespace sslkernels::cpu {

// rows: (n), columns: (m) or null. When symmetric, `columns` is null: it would equal `rows`.
void pairwise_logsumexp_forward(const Pairwise& problem, float* rows, float* columns);

struct Side {
  const float* logsumexp;  // null: this side took no part in the forward pass
  const float* gradient;
};

// dq (n, d) and dk (m, d), contiguous and zero on entry, receive the gradients of q and k,
// not yet multiplied by the scale. Either may be null. When symmetric, `dq` receives both and `dk`
// is null.
void pairwise_logsumexp_backward(const Pairwise& problem, Side row, Side column, float* dq,
                                 float* dk);

}  // namespace sslkernels::cpu
