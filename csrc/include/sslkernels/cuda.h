// Passes over a tile of q kᵀ on the GPU: float32, row-major, contiguous, already masked with -inf.
// Everything is asynchronous on `stream`, allocates nothing and can be captured in a graph.
#pragma once

#include <cstdint>

#include "sslkernels/tensor.h"

namespace sslkernels::cuda {

struct Tile {
  const float* products;
  const float* scale;  // one element
  int64_t rows, columns;
};

// rows[i] = logaddexp(rows[i], log-sum-exp over row i of scale · products); columns may be null.
void pairwise_logsumexp_reduce(const Tile& tile, float* rows, float* columns, void* stream);

struct Side {
  const float* logsumexp;  // null: this side has no gradient
  const float* gradient;
};

// out_ij = row gradient_i · exp(s_ij - row lse_i) + column gradient_j · exp(s_ij - column lse_j)
void pairwise_logsumexp_weigh(const Tile& tile, Side row, Side column, void* out, DType out_dtype,
                              void* stream);

}  // namespace sslkernels::cuda
