// One tile of q kᵀ in the cache, with its packed operands.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "pack.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr double kFreeLogit = 40;  // up to it, e^s, its sums and their inverses fit float32
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A thread's tile: packed operands, their logits, their gradients.
struct Workspace {
  int depth;  // d rounded up to kLanes
  long row;   // floats per packed row: not a power of two, so that rows do not share cache sets
  Buffer q, k, k_panels, logits, dq, dk;
  Workspace(int64_t d, bool gradients)
      : depth(round_up(static_cast<int>(d), kLanes)),
        row(depth + kLanes),
        q(kTile * row),
        k(kTile * row),
        k_panels(static_cast<size_t>(kTile) * depth),
        logits(kTile * kTile),
        dq(gradients ? kTile * row : 0),
        dk(gradients ? kTile * row : 0) {}

  // The tile's columns are rows of x from j on.
  void pack_columns(const Matrix& x, int64_t j, int columns) {
    load_tile(x, j, columns, k, row);
    transpose_to_panels(k, row, columns, depth, k_panels);
  }

  // logits (+)= factor · rows of x from i on · the packed columns.
  void multiply(const Matrix& x, int64_t i, int rows, int columns, float factor, bool accumulate) {
    load_tile(x, i, rows, q, row);
    gemm(rows, columns, depth, {q, row, 1}, {k_panels, kPanel, static_cast<long>(kPanel) * depth},
         logits, kTile, factor, accumulate);
  }

  // -inf past the columns, up to kLanes, and on the excluded diagonals of a tile that starts at
  // (i, j).
  void mask(int64_t i, int64_t j, int rows, int columns, const std::vector<int64_t>& exclude) {
    for (int r = 0; r < rows; ++r)
      std::fill(logits + r * kTile + columns, logits + r * kTile + round_up(columns, kLanes),
                -kInfinity);
    for (const int64_t offset : exclude) {
      const int64_t start = i - j + offset;  // column of row 0 in this tile
      for (int64_t r = std::max<int64_t>(0, -start); r < rows && r + start < columns; ++r)
        logits[r * kTile + r + start] = -kInfinity;
    }
  }
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
