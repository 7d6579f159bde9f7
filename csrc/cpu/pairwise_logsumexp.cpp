// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/pairwise_logsumexp.h"

#include <cmath>
#include <limits>
#include <memory>

#include "pack.h"
#include "schedule.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr double kFreeLogit = 40;  // up to it, e^s, its sums and their inverses fit float32

int64_t tile_count(int64_t size) { return (size + kTile - 1) / kTile; }

// One log-sum-exp per entry: maximum + log(sum). Without a shift the maximum stays 0.
struct Sums {
  std::vector<float> maximum;
  std::vector<double> sum;
  Sums(int64_t size, bool shifted) : maximum(size, shifted ? -kInfinity : 0.0f), sum(size, 0.0) {}
  float logsumexp(int64_t i) const {
    const float shift = maximum[i] == -kInfinity ? 0.0f : maximum[i];
    return static_cast<float>(shift + std::log(sum[i]));
  }
};

// A thread's tiles: packed operands, the logits between them, their gradients.
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
};

struct Tile {
  int64_t row, column;  // where it starts
  int rows, columns;    // how much of it there is
  bool first, last;     // among the tiles of its columns in this block, but the diagonal one
};

class Kernel {
 public:
  Kernel(const Pairwise& problem, bool gradients) : p_(problem) {
    const int64_t row_tiles = tile_count(p_.q.rows), column_tiles = tile_count(p_.k.rows);
    const int64_t most = p_.symmetric ? row_tiles / 2 : std::min(row_tiles, column_tiles);
    threads_ = static_cast<int>(std::clamp<int64_t>(p_.threads, 1, std::max<int64_t>(most, 1)));
    rounds_ = p_.symmetric ? triangle_rounds(threads_) : rectangle_rounds(threads_);
    blocks_ = p_.symmetric && threads_ > 1 ? 2 * threads_ : threads_;
    for (int t = 0; t < threads_; ++t)
      spaces_.push_back(std::make_unique<Workspace>(p_.q.cols, gradients));
    const double q_norm = largest_norm(p_.q), k_norm = p_.symmetric ? q_norm : largest_norm(p_.k);
    shifted_ = !(std::abs(p_.scale) * q_norm * k_norm <= kFreeLogit);  // NaN: shifted
  }

  void forward(float* rows, float* columns) {
    Sums row_sums(p_.q.rows, shifted_), column_sums(columns ? p_.k.rows : 0, shifted_);
    Sums* all_columns = p_.symmetric ? &row_sums : columns ? &column_sums : nullptr;
    for_each_tile([&](Workspace& w, const Tile& tile) {
      Sums* column_target = on_diagonal(tile) ? nullptr : all_columns;
      if (shifted_) {
        add_shifted(w, tile, row_sums, column_target);
      } else {
        add(w, tile, row_sums, column_target);
      }
    });
    for (int64_t i = 0; i < p_.q.rows; ++i) rows[i] = row_sums.logsumexp(i);
    for (int64_t j = 0; columns && j < p_.k.rows; ++j) columns[j] = column_sums.logsumexp(j);
  }

  void backward(Side row, Side column, float* dq, float* dk) {
    const Weights a(row, p_.q.rows, shifted_), b(p_.symmetric ? row : column, p_.k.rows, shifted_);
    float* dk_target = p_.symmetric ? dq : dk;
    for_each_tile([&](Workspace& w, const Tile& tile) {
      weigh(w, tile, a, b);
      if (dq) {
        gemm(tile.rows, w.depth, tile.columns, {w.logits, kTile, 1}, {w.k, w.row, kPanel}, w.dq,
             w.row, 1.0f, false);
        add_to(dq, tile.row, tile.rows, w.dq, w.row);
      }
      if (dk_target && !on_diagonal(tile)) {
        gemm(tile.columns, w.depth, tile.rows, {w.logits, 1, kTile}, {w.q, w.row, kPanel}, w.dk,
             w.row, 1.0f, !tile.first);
        if (tile.last) add_to(dk_target, tile.column, tile.columns, w.dk, w.row);
      }
    });
  }

 private:
  // One factor of a tile's gradient weights. Without a shift, gradient · e^-logsumexp at once.
  struct Weights {
    std::vector<float> factor, logsumexp;
    Weights(Side side, int64_t size, bool shifted)
        : factor(size, 0.0f), logsumexp(size, kInfinity) {
      for (int64_t i = 0; side.logsumexp && i < size; ++i) {
        if (side.logsumexp[i] == -kInfinity) continue;  // everything excluded: no gradient
        factor[i] = side.gradient[i];
        if (shifted) {
          logsumexp[i] = side.logsumexp[i];
        } else {
          factor[i] =
              static_cast<float>(factor[i] * std::exp(-static_cast<double>(side.logsumexp[i])));
        }
      }
    }
  };

  double largest_norm(const Matrix& x) {
    std::vector<float> largest(threads_, 0.0f);
#pragma omp parallel for schedule(static) num_threads(threads_)
    for (int t = 0; t < threads_; ++t) {
      Workspace& w = *spaces_[t];
      for (int64_t tile = t; tile < tile_count(x.rows); tile += threads_) {
        const int count = static_cast<int>(std::min<int64_t>(kTile, x.rows - tile * kTile));
        load_tile(x, tile * kTile, count, w.q, w.row);
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

  template <class Body>
  void for_each_tile_of(Workspace& w, BlockPair block, const Body& body) {
    const int64_t n = p_.q.rows, m = p_.k.rows;
    const auto edge = [&](int64_t size, int b) {
      return std::min(size, tile_count(size) * b / blocks_ * kTile);
    };
    const int64_t start = edge(n, block.row);
    for (int64_t j = edge(m, block.column); j < edge(m, block.column + 1); j += kTile) {
      const int columns = static_cast<int>(std::min<int64_t>(kTile, m - j));
      load_tile(p_.k, j, columns, w.k, w.row);
      transpose_to_panels(w.k, w.row, columns, w.depth, w.k_panels);
      const int64_t end =
          p_.symmetric ? std::min(j + 1, edge(n, block.row + 1)) : edge(n, block.row + 1);
      for (int64_t i = start; i < end; i += kTile) {
        const int rows = static_cast<int>(std::min<int64_t>(kTile, n - i));
        load_tile(p_.q, i, rows, w.q, w.row);
        gemm(rows, columns, w.depth, {w.q, w.row, 1},
             {w.k_panels, kPanel, static_cast<long>(kPanel) * w.depth}, w.logits, kTile,
             static_cast<float>(p_.scale), false);
        const bool last = i + kTile >= (p_.symmetric ? std::min(end, j) : end);
        const Tile tile{i, j, rows, columns, i == start, last};
        mask(w, tile);
        body(w, tile);
      }
    }
  }

  void mask(Workspace& w, const Tile& tile) const {
    const auto [i, j, rows, columns, first, last] = tile;
    for (int c = columns; c < round_up(columns, kLanes); ++c)
      for (int r = 0; r < rows; ++r) w.logits[r * kTile + c] = -kInfinity;
    for (const int64_t offset : p_.exclude) {
      const int64_t start = i - j + offset;  // column of row 0 in this tile
      for (int64_t r = std::max<int64_t>(0, -start); r < rows && r + start < columns; ++r)
        w.logits[r * kTile + r + start] = -kInfinity;
    }
  }

  static void add(const Workspace& w, const Tile& tile, Sums& row_sums, Sums* column_sums) {
    const auto [i, j, rows, columns, first, last] = tile;
    const int width = round_up(columns, kLanes);
    Vec column[kTile / kLanes] = {};
    for (int r = 0; r < rows; ++r) {
      Vec sum{};
      for (int c = 0; c < width; c += kLanes) {
        const Vec e = exp(load(w.logits + r * kTile + c));
        sum += e;
        column[c / kLanes] += e;
      }
      row_sums.sum[i + r] += horizontal_sum(sum);
    }
    for (int c = 0; column_sums && c < columns; ++c)
      column_sums->sum[j + c] += column[c / kLanes][c % kLanes];
  }

  static void add_shifted(const Workspace& w, const Tile& tile, Sums& row_sums, Sums* column_sums) {
    const auto [i, j, rows, columns, first, last] = tile;
    const int width = round_up(columns, kLanes);
    const auto merge = [](Sums& sums, int64_t at, float maximum, auto sum_of) {
      const float before = sums.maximum[at];
      const float after = before > maximum ? before : maximum;
      const float shift = after == -kInfinity ? 0.0f : after;
      const double kept = before == after ? sums.sum[at] : sums.sum[at] * std::exp(before - shift);
      sums.sum[at] = kept + sum_of(shift);
      sums.maximum[at] = after;
    };
    for (int r = 0; r < rows; ++r) {
      const float* logits = w.logits + r * kTile;
      Vec best = load(logits);
      for (int c = kLanes; c < width; c += kLanes) best = max(best, load(logits + c));
      merge(row_sums, i + r, horizontal_max(best), [&](float shift) {
        Vec sum{};
        for (int c = 0; c < width; c += kLanes) sum += exp(load(logits + c) - shift);
        return horizontal_sum(sum);
      });
    }
    for (int c = 0; column_sums && c < width; c += kLanes) {
      Vec best = load(w.logits + c), sum{};
      for (int r = 1; r < rows; ++r) best = max(best, load(w.logits + r * kTile + c));
      const Vec shift = best == -kInfinity ? Vec{} : best;
      for (int r = 0; r < rows; ++r) sum += exp(load(w.logits + r * kTile + c) - shift);
      for (int lane = 0; lane < kLanes && c + lane < columns; ++lane)
        merge(*column_sums, j + c + lane, best[lane], [&](float after) {
          return sum[lane] == 0 ? 0.0 : sum[lane] * std::exp(double(shift[lane]) - after);
        });
    }
  }

  // Logits become the gradient weights row_i · p_ij + column_j · p_ji, in place.
  void weigh(Workspace& w, const Tile& tile, const Weights& a, const Weights& b) const {
    const auto [i, j, rows, columns, first, last] = tile;
    const int width = round_up(columns, kLanes);
    float factor[kTile] = {}, logsumexp[kTile] = {};
    std::copy_n(b.factor.data() + j, columns, factor);
    std::copy_n(b.logsumexp.data() + j, columns, logsumexp);
    for (int r = 0; r < rows; ++r) {
      float* logits = w.logits + r * kTile;
      const float row_factor = a.factor[i + r], row_logsumexp = a.logsumexp[i + r];
      for (int c = 0; c < width; c += kLanes) {
        const Vec s = load(logits + c);
        if (shifted_) {
          store(logits + c, exp(s - row_logsumexp) * row_factor +
                                exp(s - load(logsumexp + c)) * load(factor + c));
        } else {
          store(logits + c, exp(s) * (load(factor + c) + row_factor));
        }
      }
    }
  }

  void add_to(float* gradient, int64_t first, int count, const float* tile, long tile_row) const {
    const int64_t d = p_.q.cols;
    for (int r = 0; r < count; ++r)
      for (int64_t k = 0; k < d; ++k) gradient[(first + r) * d + k] += tile[r * tile_row + k];
  }

  const Pairwise& p_;
  int threads_, blocks_;
  bool shifted_;
  Rounds rounds_;
  std::vector<std::unique_ptr<Workspace>> spaces_;
};

}  // namespace

void pairwise_logsumexp_forward(const Pairwise& problem, float* rows, float* columns) {
  Kernel(problem, false).forward(rows, columns);
}

void pairwise_logsumexp_backward(const Pairwise& problem, Side row, Side column, float* dq,
                                 float* dk) {
  Kernel(problem, true).backward(row, column, dq, dk);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
