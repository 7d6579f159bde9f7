// C (+)= factor · A · B on tiles in cache: a register-blocked product.
#pragma once

#include <algorithm>

#include "vector.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr int kMicroRows = 6;
constexpr int kPanel = kPanelVectors * kLanes;  // columns of one panel of B
constexpr int kDepth = 128;  // per sum: shorter sums round less, and the panel stays in L2

// A(i, k) is at data[i * row + k * col]: a tile or its transpose.
struct Left {
  const float* data;
  long row, col;
};

// Panel p of B starts at data + p * panel; its row k at + k * row.
struct Right {
  const float* data;
  long row, panel;
};

template <int kVectors>
inline void micro_kernel(int depth, Left a, const float* b, long b_row, float* c, long c_row,
                         float factor, bool accumulate) {
  Vec sum[kMicroRows][kVectors];
  for (int i = 0; i < kMicroRows; ++i)
    for (int v = 0; v < kVectors; ++v) sum[i][v] = Vec{};
  for (int k = 0; k < depth; ++k, b += b_row) {
    Vec right[kVectors];
    for (int v = 0; v < kVectors; ++v) right[v] = load(b + v * kLanes);
    for (int i = 0; i < kMicroRows; ++i) {
      const Vec left = broadcast(a.data[i * a.row + k * a.col]);
      for (int v = 0; v < kVectors; ++v) sum[i][v] += left * right[v];
    }
  }
  for (int i = 0; i < kMicroRows; ++i)
    for (int v = 0; v < kVectors; ++v) {
      float* out = c + i * c_row + v * kLanes;
      store(out, accumulate ? load(out) + sum[i][v] * factor : sum[i][v] * factor);
    }
}

// Rounds `rows` up to kMicroRows and `cols` to kLanes: the buffers must be that large.
inline void gemm(int rows, int cols, int depth, Left a, Right b, float* c, long c_row, float factor,
                 bool accumulate) {
  for (int k = 0; k < depth; k += kDepth, accumulate = true) {
    const int chunk = std::min(kDepth, depth - k);
    for (int j = 0; j < cols; j += kPanel) {
      const float* panel = b.data + (j / kPanel) * b.panel + k * b.row;
      const int vectors = std::min(kPanelVectors, (cols - j + kLanes - 1) / kLanes);
      for (int i = 0; i < rows; i += kMicroRows) {
        const Left strip{a.data + i * a.row + k * a.col, a.row, a.col};
        float* out = c + i * c_row + j;
        switch (vectors) {
          case 1:
            micro_kernel<1>(chunk, strip, panel, b.row, out, c_row, factor, accumulate);
            break;
          case 2:
            micro_kernel<2>(chunk, strip, panel, b.row, out, c_row, factor, accumulate);
            break;
#if defined(__AVX512F__)
          case 3:
            micro_kernel<3>(chunk, strip, panel, b.row, out, c_row, factor, accumulate);
            break;
          case 4:
            micro_kernel<4>(chunk, strip, panel, b.row, out, c_row, factor, accumulate);
            break;
#endif
        }
      }
    }
  }
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
