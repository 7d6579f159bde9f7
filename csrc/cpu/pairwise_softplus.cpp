// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/pairwise_softplus.h"

#include "tile_walk.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

void pairwise_softplus_forward(const Pairwise& problem, float* rows) {
  std::vector<double> sums(problem.q.rows, 0.0);
  TileWalk(problem, false).for_each_tile([&](Workspace& w, const Tile& tile) {
    for (int r = 0; r < tile.rows; ++r) {
      const float* logits = w.logits + r * kTile;
      Vec sum{};
      for (int c = 0; c < tile.columns; c += kLanes) sum += softplus(load(logits + c));
      sums[tile.row + r] += horizontal_sum(sum);
    }
  });
  std::copy(sums.begin(), sums.end(), rows);
}

void pairwise_softplus_backward(const Pairwise& problem, const float* row_gradient, float* dq,
                                float* dk, float* row_sigma) {
  std::vector<double> sums(problem.q.rows, 0.0);
  TileWalk walk(problem, dq || dk);
  walk.for_each_tile([&](Workspace& w, const Tile& tile) {
    for (int r = 0; r < tile.rows; ++r) {
      float* logits = w.logits + r * kTile;
      const float gradient = row_gradient[tile.row + r];
      Vec sum{};
      for (int c = 0; c < tile.columns; c += kLanes) {
        const Vec sigma = sigmoid(load(logits + c));
        sum += sigma;
        store(logits + c, sigma * gradient);
      }
      sums[tile.row + r] += static_cast<double>(gradient) * horizontal_sum(sum);
    }
    walk.add_gradients(w, tile, dq, dk);
  });
  std::copy(sums.begin(), sums.end(), row_sigma);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
