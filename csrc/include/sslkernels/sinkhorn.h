// The passes of Sinkhorn-Knopp over logits. The maths is in
// sslkernels/primitives/sinkhorn/README.md.
#pragma once

#include "sslkernels/tensor.h"

namespace sslkernels {

struct Sinkhorn {
  Matrix logits;  // (n, k), the first of the groups; columns contiguous
  int64_t groups, group_stride;
  const float* center;  // (groups, k); null: none
  double scale;         // the inverse of epsilon
  int threads;          // on the CPU
};

// The maximum of scaled logits and the sum of e^(logit - maximum).
struct LogSums {
  float *maximum, *total;
};

namespace cpu {

// The centre after all iterations, (groups, k). The problem's centre is not read.
void sinkhorn(const Sinkhorn& problem, int iterations, float* center);

// Over rows, (groups, k).
void sinkhorn_columns(const Sinkhorn& problem, LogSums out);

// Over columns, (groups, n).
void sinkhorn_rows(const Sinkhorn& problem, LogSums out);

// The plan's mass in every column, (groups, k). Null rows: those of these columns, which must then
// be all columns.
void sinkhorn_masses(const Sinkhorn& problem, LogSums rows, float* out);

}  // namespace cpu

namespace cuda {

// The number of blocks that together hold a row of this many columns; 0 if the current device has
// no such cluster.
int sinkhorn_cluster(int64_t columns);

// As on the CPU, without rows, for the first *count rows (all, if null): out (clusters, groups, k),
// the results of the clusters. Asynchronous on `stream`.
void sinkhorn_masses(const Sinkhorn& problem, const int64_t* count, int clusters, float* out,
                     void* stream);

}  // namespace cuda
}  // namespace sslkernels
