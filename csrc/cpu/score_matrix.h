// All scores scale · q kᵀ + bias of a small problem, kept in memory: log-sum-exps from one pass
// over its tiles, then gradient weights in their place, then products with those.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "rows.h"
#include "tile.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

// A log-sum-exp for every row (or column), and the loss's derivative in it; +inf if no entry is
// left. Empty: this side has no part in the loss.
struct Sides {
  std::vector<float> logsumexp, gradient;
};

constexpr int kFew = 64;  // rows or columns: memory takes more time than arithmetic

class ScoreMatrix {
  static constexpr int kMany = 2048, kBlocks = 16;  // rows; parts of rows

 public:
// `together`: gradients of columns are computed with their log-sum-exps if nothing is shifted and
// rows have none, so that memory is read once.
  ScoreMatrix(const Rows& q, const Rows& k, bool symmetric, double scale, double bias,
              const std::vector<int64_t>& exclude, bool shifted, int threads, Arena& arena,
              bool together = false)
      : q_(q),
        k_(k),
        symmetric_(symmetric),
        shifted_(shifted),
        together_(together && !shifted),
        exclude_(exclude),
        n_(q.count()),
        m_(k.count()),
        scale_(scale),
        bias_(bias),
        threads_(threads),
        d_(static_cast<int>(q.matrix().cols)),
        tile_(tile_size()),
        row_tiles_(tiles(n_)),
        column_tiles_(tiles(m_)),
        blocks_(blocks()),
        row_((m_ + kLanes - 1) / kLanes * kLanes + kLanes),
        scores_(arena.take(static_cast<size_t>(n_ + kMicroRows) * row_)) {
    const size_t panels = static_cast<size_t>(round_up(tile_, kPanel)) * d_;
    const size_t out = static_cast<size_t>(tile_ + kMicroRows) * (round_up(d_, kLanes) + kLanes);
    for (int64_t b = 0; together_ && b < blocks_; ++b)
      gradients_.push_back(arena.take((m_ + kMicroRows) * out_row()));
    for (int t = 0; t < threads_; ++t) {
      spaces_.push_back(arena.take(std::max(panels, out)));
      packed_.push_back(arena.take(static_cast<size_t>(kDepth) * round_up(d_, kPanel)));
    }
// products of columns read past the last one, where uninitialised values may be denormal, and
// slow
    for (int64_t i = 0; i < n_; ++i) std::fill_n(at(i, row_ - kLanes), kLanes, 0.0f);
  }

  static int64_t bytes(int64_t n, int64_t m) { return (n + kMicroRows) * (m + 2 * kLanes) * 4; }

  // Row and column log-sum-exps. Scores stay (shifted), or their exponentials.
  void logsumexp(std::vector<double>& rows, std::vector<double>& columns, bool want_columns) {
    const bool by_column = want_columns || symmetric_;
    Partials row_parts(column_tiles_, n_), column_parts(by_column ? row_tiles_ : 0, m_);
    for_each_tile([&](const Tile& t) {
      float* row_max = row_parts.maximum.data() + t.column / tile_ * n_ + t.row;
      float* row_sum = row_parts.sum.data() + t.column / tile_ * n_ + t.row;
      const int64_t at = t.row / tile_ * m_ + t.column;
      const bool own = by_column && !(symmetric_ && t.row == t.column);
      float* column_max = own ? column_parts.maximum.data() + at : nullptr;
      float* column_sum = own ? column_parts.sum.data() + at : nullptr;
      if (shifted_) {
        reduce_shifted(t, row_max, row_sum, column_max, column_sum);
      } else {
        reduce(t, row_sum, column_sum);
      }
      if (together_) add_gradients(t);
    });
    rows.resize(n_);
    for (int64_t i = 0; i < n_; ++i) {
      Sum sum{shifted_};
      const int64_t block = symmetric_ ? i / tile_ : 0;
      for (int64_t c = block; c < column_tiles_; ++c) sum.add(row_parts, c * n_ + i);
      for (int64_t r = 0; r < block; ++r) sum.add(column_parts, r * m_ + i);
      rows[i] = sum.logsumexp();
    }
    columns.resize(want_columns ? m_ : 0);
    for (int64_t j = 0; j < static_cast<int64_t>(columns.size()); ++j) {
      Sum sum{shifted_};
      for (int64_t r = 0; r < row_tiles_; ++r) sum.add(column_parts, r * m_ + j);
      columns[j] = sum.logsumexp();
    }
  }

// The sum of softplus of all scores; if wanted, weights σ(s) · factor replace the scores. Also
// returns their sum.
  std::pair<double, double> softplus_sum(float factor, bool weights) {
    const int64_t tiles = row_tiles_ * column_tiles_;
    std::vector<double> sums(tiles, 0.0), sigmas(tiles, 0.0);
    for_each_tile([&](const Tile& t) {
      const Vec bias = broadcast(static_cast<float>(bias_));
      for (int r = 0; r < t.rows; ++r) {
        float* s = at(t.row + r, t.column);
        Vec sum{}, sigma_sum{};
        for (int c = 0; c < t.columns; c += kLanes) {
          // one exponential and one quotient serve softplus(x) = max(x, 0) + log1p(e^-|x|) and σ(x)
          const Vec x = SSLKERNELS_ISA::load(s + c) + bias, e = exp(-max(x, -x));
          const Vec one = e + 1.0f, two = e + 2.0f, inverse = 1.0f / (one * two);
          sum += max(x, Vec{}) + log1p(e, e * one * inverse);
          if (weights) {
            const Vec sigma = (x < 0.0f ? e : broadcast(1.0f)) * two * inverse;
            sigma_sum += sigma;
            store(s + c, sigma * factor);
          }
        }
        const int64_t tile = t.row / tile_ * column_tiles_ + t.column / tile_;
        sums[tile] += horizontal_sum(sum);
        sigmas[tile] += horizontal_sum(sigma_sum);
      }
    });
    double sum = 0, sigma = 0;
    for (int64_t tile = 0; tile < tiles; ++tile) sum += sums[tile], sigma += sigmas[tile];
    return {sum, sigma * factor};
  }

  // Replaces scores by gradient_i e^(s - row_i) + gradient_j e^(s - column_j).
  void weigh(const Sides& row, const Sides& column) {
    if (together_) {
      factors_ = factors(column);
      return;
    }
    const std::vector<float> a = factors(row), b = factors(symmetric_ ? row : column);
    const std::vector<float>& column_lse = (symmetric_ ? row : column).logsumexp;
    run(column_tiles_, [&](int64_t task, int) {
      const int64_t j = task * tile_;
      const int width = round_up(static_cast<int>(std::min<int64_t>(tile_, m_ - j)), kLanes);
      float factor[kTile] = {}, logsumexp[kTile] = {};
      const int64_t columns = std::min<int64_t>(tile_, m_ - j);
      const int64_t end = symmetric_ ? std::min(n_, j + tile_) : n_;
      if (!b.empty()) {
        std::copy_n(b.begin() + j, columns, factor);
        std::copy_n(column_lse.begin() + j, columns, logsumexp);
      }
      for (int64_t i = 0; i < end; ++i) {
        float* s = at(i, j);
        const float row_factor = a[i], row_lse = row.logsumexp[i];
        for (int c = 0; c < width; c += kLanes) {
          const Vec x = SSLKERNELS_ISA::load(s + c), f = SSLKERNELS_ISA::load(factor + c);
          if (!shifted_) {
            store(s + c, x * (f + row_factor));
          } else if (b.empty()) {
            store(s + c, exp(x - row_lse) * row_factor);
          } else {
            store(s + c,
                  exp(x - row_lse) * row_factor + exp(x - SSLKERNELS_ISA::load(logsumexp + c)) * f);
          }
        }
      }
    });
  }

  // body(i, gradient) for every row i: gradient = Σ_j w_ij k_j, which body may overwrite.
  template <class Body>
  void row_gradients(const Body& body) {
    const int step = task_rows(n_);
    run((n_ + step - 1) / step, [&](int64_t task, int thread) {
      const int64_t i = task * step, before = symmetric_ ? i / tile_ * tile_ : 0;
      const int rows = static_cast<int>(std::min<int64_t>(step, n_ - i));
      float* out = spaces_[thread];
      if (before)  // the other triangle's weights are those of columns
        multiply(rows, {at(0, i), 1, row_}, k_, 0, before, out, false, packed_[thread]);
      multiply(rows, {at(i, before), row_, 1}, k_, before, m_, out, before > 0,
               packed_[thread]);
      for (int r = 0; r < rows; ++r) body(i + r, out + r * out_row());
    });
  }

  // The same for every column j: Σ_i w_ij q_i.
  template <class Body>
  void column_gradients(const Body& body) {
    if (together_) return sum_gradients(body);
    const int step = task_rows(m_);
    run((m_ + step - 1) / step, [&](int64_t task, int thread) {
      const int64_t j = task * step;
      const int columns = static_cast<int>(std::min<int64_t>(step, m_ - j));
      float* out = spaces_[thread];
      multiply(columns, {at(0, j), 1, row_}, q_, 0, n_, out, false, packed_[thread]);
      for (int c = 0; c < columns; ++c) body(j + c, out + c * out_row());
    });
  }

 private:
  struct Tile {
    int64_t row, column;
    int rows, columns;
    int64_t block;  // of rows
  };
  struct Partials {
    std::vector<float> maximum, sum;
    Partials(int64_t tiles, int64_t size) : maximum(tiles * size), sum(tiles * size) {}
  };
  struct Sum {
    bool shifted;
    double maximum = 0, sum = 0;
    bool first = true;
    void add(const Partials& parts, int64_t at) {
      if (!shifted) {
        sum += parts.sum[at];
        return;
      }
      const double theirs = parts.maximum[at];
      if (theirs == -kInfinity) {
        sum += parts.sum[at];  // 0, or NaN
        return;
      }
      if (first || theirs > maximum) {
        sum = first ? sum : sum * std::exp(maximum - theirs);
        maximum = theirs;
        first = false;
      }
      sum += parts.sum[at] * std::exp(theirs - maximum);
    }
    double logsumexp() const { return maximum + std::log(sum); }
  };

  // Without a shift, gradient · e^-logsumexp at once.
  std::vector<float> factors(const Sides& side) const {
    std::vector<float> out = side.gradient;
    for (size_t i = 0; !shifted_ && i < out.size(); ++i)
      out[i] = static_cast<float>(out[i] * std::exp(-static_cast<double>(side.logsumexp[i])));
    return out;
  }

// Small problems are split finer, so that there is a tile for every thread; 48 is a multiple of
// kMicroRows and of kLanes, whose padding must not reach a neighbour.
  int tile_size() const {
    const int64_t rows = std::max(n_, m_);
    return rows <= 256 ? 48 : rows <= 768 ? 96 : kTile;
  }
  int64_t tiles(int64_t size) const { return (size + tile_ - 1) / tile_; }
  int task_rows(int64_t size) const {
    int step = tile_;
    while (step % (2 * kMicroRows) == 0 && size < 2 * threads_ * step) step /= 2;
    return step;
  }
  float* at(int64_t i, int64_t j) const { return scores_ + i * row_ + j; }

  long out_row() const { return round_up(d_, kLanes) + kLanes; }

  // Independent of the number of threads if sums of blocks are added, so that results are too.
  int64_t blocks() const {
    if (together_) return std::min<int64_t>(row_tiles_, kBlocks);
    if (symmetric_ || column_tiles_ >= 2 * threads_) return 1;
    return std::min<int64_t>(row_tiles_, 2 * threads_);
  }
  int64_t start(int64_t block) const { return row_tiles_ * block / blocks_ * tile_; }

  // Adds a tile of exponentials to the sums of its block: Σ_i e^(s_ij) q_i for each column.
  void add_gradients(const Tile& t) const {
    gemm(t.columns, d_, t.rows, {at(t.row, t.column), 1, row_}, {q_.at(t.row), q_.row(), kPanel},
         gradients_[t.block] + t.column * out_row(), out_row(), 1.0f, t.row > start(t.block));
  }

  template <class Body>
  void sum_gradients(const Body& body) {
    run(m_, [&](int64_t j, int) {
      float* sum = gradients_[0] + j * out_row();
      for (int64_t b = 1; b < blocks_; ++b)
        for (int k = 0; k < d_; ++k) sum[k] += gradients_[b][j * out_row() + k];
      for (int k = 0; k < d_; ++k) sum[k] *= factors_[j];
      body(j, sum);
    });
  }

  // out (+)= weights · rows [first, last) of x.
  void multiply(int rows, Left weights, const Rows& x, int64_t first, int64_t last, float* out,
                bool accumulate, float* packed) const {
    const bool is_packed = rows <= kFew && last - first >= kMany;
    for (int64_t k = first; k < last; k += kDepth) {
      const int depth = static_cast<int>(std::min<int64_t>(kDepth, last - k));
      const Right right = is_packed ? pack(x, k, depth, packed) : Right{x.at(k), x.row(), kPanel};
      gemm(rows, d_, depth, weights, right, out, out_row(), 1.0f, accumulate || k > first);
      weights.data += depth * weights.col;
    }
  }

// Rows from `first` on as packed panels: reading them in place waits for memory, and for cache sets
// that rows of a power-of-two length share, if each is used by few weights.
  Right pack(const Rows& x, int64_t first, int depth, float* panels) const {
    const int whole = d_ / kPanel * kPanel;
    for (int i = 0; i < depth; ++i) {
      const float* from = x.at(first + i);
      float* to = panels + static_cast<long>(i) * kPanel;
      for (int k = 0; k < whole; k += kPanel, to += static_cast<long>(depth) * kPanel)
        for (int lane = 0; lane < kPanel; lane += kLanes) {
          __builtin_prefetch(from + k + lane + 8 * x.row());
          store(to + lane, SSLKERNELS_ISA::load(from + k + lane));
        }
      std::copy_n(from + whole, round_up(d_ - whole, kLanes), to);  // rows are padded
    }
    return {panels, kPanel, static_cast<long>(kPanel) * depth};
  }

  // Prefetches rows of q.
  void fetch(const float* rows, int count) const {
    for (int i = 0; i < count; ++i, rows += q_.row())
      for (int k = 0; k < d_; k += 16) __builtin_prefetch(rows + k);
  }

  template <class Body>
  void run(int64_t tasks, const Body& body) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads_) if (threads_ > 1)
    for (int64_t task = 0; task < tasks; ++task) body(task, this_thread());
  }

  // Scores of every tile, and body(tile); for a symmetric problem, tiles on or above the diagonal.
  template <class Body>
  void for_each_tile(const Body& body) {
    run(column_tiles_ * blocks_, [&](int64_t task, int thread) {
      const int64_t j = (column_tiles_ - 1 - task / blocks_) * tile_;  // the longest first
      const int64_t block = task % blocks_;
      const int columns = static_cast<int>(std::min<int64_t>(tile_, m_ - j));
      float* panels = spaces_[thread];
      transpose_to_panels(k_.at(j), k_.row(), columns, d_, panels);
      const Right right{panels, kPanel, static_cast<long>(kPanel) * d_};
      const int64_t end = symmetric_ ? j + 1 : start(block + 1);
      for (int64_t i = start(block); i < std::min(n_, end); i += tile_) {
        const int rows = static_cast<int>(std::min<int64_t>(tile_, n_ - i));
        const int whole = static_cast<int>(std::min<int64_t>(rows, q_.whole() - i));
        const int step = m_ <= kFew ? kMicroRows : tile_;
        for (int r = 0; r < whole; r += step) {
          if (m_ <= kFew && i + r + 2 * tile_ < n_) fetch(q_.at(i + r + tile_), kMicroRows);
          gemm(std::min(step, whole - r), columns, d_, {q_.at(i + r), q_.row(), 1}, right,
               at(i + r, j), row_, static_cast<float>(scale_), false);
        }
        if (whole < rows)
          gemm(rows - whole, columns, d_, {q_.last(), q_.row(), 1}, right, at(i + whole, j), row_,
               static_cast<float>(scale_), false);
        mask(i, j, rows, columns);
        body(Tile{i, j, rows, columns, block});
      }
    });
  }

  void mask(int64_t i, int64_t j, int rows, int columns) {
    for (int r = 0; r < rows; ++r)
      std::fill(at(i + r, j + columns), at(i + r, j) + round_up(columns, kLanes), -kInfinity);
    for (const int64_t offset : exclude_) {
      const int64_t start = i - j + offset;  // column of row 0 in this tile
      for (int64_t r = std::max<int64_t>(0, -start); r < rows && r + start < columns; ++r)
        *at(i + r, j + r + start) = -kInfinity;
    }
  }

  void reduce(const Tile& t, float* row_sum, float* column_sum) const {
    const int width = round_up(t.columns, kLanes);
    Vec column[kTile / kLanes] = {};
    for (int r = 0; r < t.rows; ++r) {
      float* s = at(t.row + r, t.column);
      Vec sum{};
      for (int c = 0; c < width; c += kLanes) {
        const Vec e = exp(SSLKERNELS_ISA::load(s + c));
        store(s + c, e);
        sum += e;
        column[c / kLanes] += e;
      }
      row_sum[r] = horizontal_sum(sum);
    }
    for (int c = 0; column_sum && c < t.columns; ++c)
      column_sum[c] = column[c / kLanes][c % kLanes];
  }

  void reduce_shifted(const Tile& t, float* row_max, float* row_sum, float* column_max,
                      float* column_sum) const {
    const int width = round_up(t.columns, kLanes);
    for (int r = 0; r < t.rows; ++r) {
      const float* s = at(t.row + r, t.column);
      Vec best = SSLKERNELS_ISA::load(s), sum{};
      for (int c = kLanes; c < width; c += kLanes) best = max(best, SSLKERNELS_ISA::load(s + c));
      row_max[r] = horizontal_max(best);
      const float shift = row_max[r] == -kInfinity ? 0.0f : row_max[r];
      for (int c = 0; c < width; c += kLanes) sum += exp(SSLKERNELS_ISA::load(s + c) - shift);
      row_sum[r] = horizontal_sum(sum);
    }
    for (int c = 0; column_max && c < width; c += kLanes) {
      Vec best = SSLKERNELS_ISA::load(at(t.row, t.column + c)), sum{};
      for (int r = 1; r < t.rows; ++r)
        best = max(best, SSLKERNELS_ISA::load(at(t.row + r, t.column + c)));
      const Vec shift = best == -kInfinity ? Vec{} : best;
      for (int r = 0; r < t.rows; ++r)
        sum += exp(SSLKERNELS_ISA::load(at(t.row + r, t.column + c)) - shift);
      for (int lane = 0; lane < kLanes && c + lane < t.columns; ++lane) {
        column_max[c + lane] = best[lane];
        column_sum[c + lane] = sum[lane];
      }
    }
  }

  const Rows &q_, &k_;
  const bool symmetric_, shifted_, together_;
  const std::vector<int64_t>& exclude_;
  const int64_t n_, m_;
  const double scale_, bias_;
  const int threads_, d_, tile_;
  const int64_t row_tiles_, column_tiles_, blocks_;  // of rows, each a separate task
  const long row_;
  float* scores_;
  std::vector<float*> spaces_, packed_, gradients_;
  std::vector<float> factors_;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
