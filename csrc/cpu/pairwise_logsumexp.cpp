// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/pairwise_logsumexp.h"

#include <cmath>
#include <limits>
#include <utility>

#include "strips.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

constexpr double kLowest = std::numeric_limits<float>::lowest();

// One log-sum-exp per entry: maximum + log(sum). Without a shift the maximum stays 0.
struct Sums {
  std::vector<float> maximum;
  std::vector<double> sum;
  Sums(int64_t size, bool shifted) : maximum(size, shifted ? -kInfinity : 0.0f), sum(size, 0.0) {}
  float shift(int64_t i) const { return maximum[i] == -kInfinity ? 0.0f : maximum[i]; }
  void write(float* logsumexp) const {
    for (size_t i = 0; logsumexp && i < sum.size(); ++i)
      logsumexp[i] = static_cast<float>(shift(i) + std::log(sum[i]));
  }
  // Merges the sums of other columns.
  void add(const Sums& other) {
    for (size_t i = 0; i < sum.size(); ++i) {
      if (other.sum[i] == 0) continue;
      const double before = sum[i] == 0 ? -kInfinity : shift(i), theirs = other.shift(i);
      maximum[i] = static_cast<float>(std::max(before, theirs));
      sum[i] =
          sum[i] * std::exp(before - maximum[i]) + other.sum[i] * std::exp(theirs - maximum[i]);
    }
  }
};

class Kernel {
 public:
  Kernel(const Pairwise& problem, bool gradients) : p_(problem), walk_(problem, gradients) {
    const double q_norm = walk_.largest_norm(p_.q);
    const double k_norm = p_.symmetric ? q_norm : walk_.largest_norm(p_.k);
    shifted_ = !(std::abs(p_.scale) * q_norm * k_norm <= kFreeLogit);  // NaN: shifted
  }

  // Sums of rows, and of columns if wanted.
  std::pair<Sums, Sums> forward(bool columns) {
    Sums row_sums(p_.q.rows, shifted_), column_sums(columns ? p_.k.rows : 0, shifted_);
    Sums* all_columns = p_.symmetric ? &row_sums : columns ? &column_sums : nullptr;
    walk_.for_each_tile([&](Workspace& w, const Tile& tile) {
      Sums* column_target = walk_.on_diagonal(tile) ? nullptr : all_columns;
      if (shifted_) {
        add_shifted(w, tile, row_sums, column_target);
      } else {
        add(w, tile, row_sums, column_target);
      }
    });
    return {std::move(row_sums), std::move(column_sums)};
  }

  void backward(Side row, Side column, float* dq, float* dk) {
    const Weights a(row, p_.q.rows, shifted_), b(p_.symmetric ? row : column, p_.k.rows, shifted_);
    walk_.for_each_tile([&](Workspace& w, const Tile& tile) {
      weigh(w, tile, a, b);
      walk_.add_gradients(w, tile, dq, p_.symmetric ? dq : dk);
    });
  }

 private:
  // One factor of a tile's gradient weights. Without a shift, gradient · e^-logsumexp at once.
  struct Weights {
    std::vector<float> factor, logsumexp;
    Weights(Side side, int64_t size, bool shifted)
        : factor(size, 0.0f), logsumexp(size, kInfinity) {
      for (int64_t i = 0; side.logsumexp && i < size; ++i) {
        // no gradient if everything is excluded in the row, or in a strip's part of it
        if (side.logsumexp[i] < (shifted ? kLowest : -2 * kFreeLogit)) continue;
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

  // Replaces logits by the gradient weights row_i · p_ij + column_j · p_ji, in place.
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

  const Pairwise& p_;
  TileWalk walk_;
  bool shifted_;
};

}  // namespace

void pairwise_logsumexp_forward(const Pairwise& problem, float* rows, float* columns) {
  const Strips strips(problem);
  std::vector<Sums> shares(strips.count(), Sums(0, false));  // of the side that is not split
  strips.for_each([&](const Pairwise& strip, int t, int64_t start) {
    auto [row_sums, column_sums] = Kernel(strip, false).forward(columns);
    if (strips.of_columns()) {
      column_sums.write(Strips::from(columns, start));
      shares[t] = std::move(row_sums);
    } else {
      row_sums.write(rows + start);
      shares[t] = std::move(column_sums);
    }
  });
  for (int t = 1; t < strips.count(); ++t) shares[0].add(shares[t]);
  shares[0].write(strips.of_columns() ? rows : columns);
}

void pairwise_logsumexp_backward(const Pairwise& problem, Side row, Side column, float* dq,
                                 float* dk) {
  const Strips strips(problem);
  strips.for_each(dq, dk, [&](const Pairwise& strip, int, int64_t start, float* dq, float* dk) {
    Side sides[] = {row, column};
    Side& cut = sides[strips.of_columns()];
    cut = {Strips::from(cut.logsumexp, start), Strips::from(cut.gradient, start)};
    Kernel(strip, true).backward(sides[0], sides[1], dq, dk);
  });
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
