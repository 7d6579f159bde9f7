// The loop over the tiles of scale · q kᵀ + bias in every pairwise kernel: logits are left in the
// cache for the kernel to reduce, or to replace by gradient weights in place.
#pragma once

#include <cmath>
#include <memory>

#include "schedule.h"
#include "sslkernels/pairwise.h"
#include "tile.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr int64_t kFewRows = 2048;

// Few rows are split finer, so that there is a tile for every thread.
inline int tile_size(int64_t rows) { return rows < kFewRows ? 128 : kTile; }

struct Tile {
  int64_t row, column;  // its start
  int rows, columns;    // its actual size
  bool first, last;     // among the tiles of its columns in this block, except the diagonal one
};

class TileWalk {
 public:
  TileWalk(const Pairwise& problem, bool gradients)
      : p_(problem), tile_(tile_size(std::max(problem.q.rows, problem.k.rows))) {
    const int64_t row_tiles = tile_count(p_.q.rows), column_tiles = tile_count(p_.k.rows);
    const int64_t most = p_.symmetric ? row_tiles / 2 : std::min(row_tiles, column_tiles);
    threads_ = static_cast<int>(std::clamp<int64_t>(p_.threads, 1, std::max<int64_t>(most, 1)));
    rounds_ = p_.symmetric ? triangle_rounds(threads_) : rectangle_rounds(threads_);
    blocks_ = p_.symmetric && threads_ > 1 ? 2 * threads_ : threads_;
    for (int t = 0; t < threads_; ++t)
      spaces_.push_back(std::make_unique<Workspace>(p_.q.cols, gradients));
  }

  // In the symmetric case such a tile holds both members of each pair; the others hold one.
  bool on_diagonal(const Tile& tile) const { return p_.symmetric && tile.row == tile.column; }

  // Calls body(workspace, tile) with the tile's logits in place; the rows of a column run in turn.
  template <class Body>
  void for_each_tile(const Body& body) {
    for (const auto& round : rounds_) {
#pragma omp parallel for schedule(static) num_threads(threads_)
      for (int t = 0; t < threads_; ++t)
        for (const BlockPair& block : round[t]) for_each_tile_of(*spaces_[t], block, body);
    }
  }

  // dq += G k and dk += Gᵀ q, where G has replaced the tile's logits. Either may be null.
  void add_gradients(Workspace& w, const Tile& tile, float* dq, float* dk) const {
    if (dq) {
      gemm(tile.rows, w.depth, tile.columns, {w.logits, kTile, 1}, {w.k, w.row, kPanel}, w.dq,
           w.row, 1.0f, false);
      add_to(dq, tile.row, tile.rows, w.dq, w.row);
    }
    if (dk && !on_diagonal(tile)) {
      gemm(tile.columns, w.depth, tile.rows, {w.logits, 1, kTile}, {w.q, w.row, kPanel}, w.dk,
           w.row, 1.0f, !tile.first);
      if (tile.last) add_to(dk, tile.column, tile.columns, w.dk, w.row);
    }
  }

  double largest_norm(const Matrix& x) {
    std::vector<float> largest(threads_, 0.0f);
#pragma omp parallel for schedule(static) num_threads(threads_)
    for (int t = 0; t < threads_; ++t) {
      Workspace& w = *spaces_[t];
      for (int64_t tile = t; tile < tile_count(x.rows); tile += threads_) {
        const int count = static_cast<int>(std::min<int64_t>(tile_, x.rows - tile * tile_));
        load_tile(x, tile * tile_, count, w.q, w.row);
        for (int i = 0; i < count; ++i) {
          Vec squares{};
          for (int k = 0; k < w.depth; k += kLanes) {
            const Vec v = load(w.q + i * w.row + k);
            squares += v * v;
          }
          const float sum = horizontal_sum(squares);
          if (!(sum <= largest[t])) largest[t] = sum == sum ? sum : kInfinity;
        }
      }
    }
    return std::sqrt(*std::max_element(largest.begin(), largest.end()));
  }

 private:
  template <class Body>
  void for_each_tile_of(Workspace& w, BlockPair block, const Body& body) {
    const int64_t n = p_.q.rows, m = p_.k.rows;
    const auto edge = [&](int64_t size, int b) {
      return std::min(size, tile_count(size) * b / blocks_ * tile_);
    };
    const int64_t start = edge(n, block.row);
    const bool biased = p_.bias != 0;
    for (int64_t j = edge(m, block.column); j < edge(m, block.column + 1); j += tile_) {
      const int columns = static_cast<int>(std::min<int64_t>(tile_, m - j));
      w.pack_columns(p_.k, j, columns);
      const int64_t end =
          p_.symmetric ? std::min(j + 1, edge(n, block.row + 1)) : edge(n, block.row + 1);
      for (int64_t i = start; i < end; i += tile_) {
        const int rows = static_cast<int>(std::min<int64_t>(tile_, n - i));
        if (biased)
          std::fill_n(+w.logits, round_up(rows, kMicroRows) * kTile, static_cast<float>(p_.bias));
        w.multiply(p_.q, i, rows, columns, static_cast<float>(p_.scale), biased);
        w.mask(i, j, rows, columns, p_.exclude);
        const bool last = i + tile_ >= (p_.symmetric ? std::min(end, j) : end);
        body(w, Tile{i, j, rows, columns, i == start, last});
      }
    }
  }

  void add_to(float* gradient, int64_t first, int count, const float* tile, long tile_row) const {
    const int64_t d = p_.q.cols;
    for (int r = 0; r < count; ++r)
      for (int64_t k = 0; k < d; ++k) gradient[(first + r) * d + k] += tile[r * tile_row + k];
  }

  int64_t tile_count(int64_t size) const { return (size + tile_ - 1) / tile_; }

  const Pairwise& p_;
  const int tile_;
  int threads_, blocks_;
  Rounds rounds_;
  std::vector<std::unique_ptr<Workspace>> spaces_;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
