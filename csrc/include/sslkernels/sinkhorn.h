// The passes of Sinkhorn-Knopp over logits. The maths stands in
// sslkernels/primitives/sinkhorn/README.md.
#pragma once

#include "sslkernels/tensor.h"

namespace sslkernels {

struct Sinkhorn {
  Matrix logits;  // (n, k), of the first of the groups; columns contiguous
  int64_t groups, group_stride;
  const float* center;  // (groups, k); null: none
  double scale;         // the inverse of epsilon
  int threads;          // on the CPU
};

// Of scaled logits the maximum and the sum of e^(logit - maximum).
struct LogSums {
  float *maximum, *total;
};

namespace cpu {

// The centre after so many iterations, (groups, k). The problem's own is not read.
void sinkhorn(const Sinkhorn& problem, int iterations, float* center);

// Over rows, (groups, k).
void sinkhorn_columns(const Sinkhorn& problem, LogSums out);

// Over columns, (groups, n).
void sinkhorn_rows(const Sinkhorn& problem, LogSums out);

// What the plan gives to every column, (groups, k). Null rows: those of these columns, which are
// then all there are.
void sinkhorn_masses(const Sinkhorn& problem, LogSums rows, float* out);

}  // namespace cpu

namespace cuda {

// How many blocks hold a row of so many columns together; 0 if the current device has no such
// cluster.
int sinkhorn_cluster(int64_t columns);

// The same as on the CPU, without rows, of the first *count rows (all, if null): out
// (clusters, groups, k), what each of so many clusters has found. Asynchronous on `stream`.
void sinkhorn_masses(const Sinkhorn& problem, const int64_t* count, int clusters, float* out,
                     void* stream);

}  // namespace cuda
}  // namespace sslkernels
