// The passes of Sinkhorn-Knopp over logits, on the CPU. The maths stands in
// sslkernels/primitives/sinkhorn/README.md.
#pragma once

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

struct Sinkhorn {
  Matrix logits;  // (n, k), of the first of the groups; columns contiguous
  int64_t groups, group_stride;
  const float* center;  // (groups, k); null: none
  double scale;         // the inverse of epsilon
  int threads;
};

// Of scaled logits the maximum and the sum of e^(logit - maximum).
struct LogSums {
  float *maximum, *total;
};

// Over rows, (groups, k).
void sinkhorn_columns(const Sinkhorn& problem, LogSums out);

// Over columns, (groups, n).
void sinkhorn_rows(const Sinkhorn& problem, LogSums out);

// What the plan gives to every column, (groups, k). Null rows: those of these columns, which are
// then all there are.
void sinkhorn_masses(const Sinkhorn& problem, LogSums rows, float* out);

}  // namespace sslkernels::cpu
