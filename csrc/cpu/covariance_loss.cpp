// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/covariance_loss.h"

#include <cmath>

#include "arena.h"
#include "product.h"
#include "row.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

namespace {

constexpr int64_t kThreadWork = 1 << 19;  // multiply-adds worth a thread
constexpr int64_t kExactRows = 32;        // summed in float before adding to a double

double inner_product(const float* x, const float* y, int64_t count) {
  double sum = 0;
  for (int64_t start = 0; start < count; start += kRun) {
    const int64_t end = std::min<int64_t>(count, start + kRun);
    Vec lanes{};
    int64_t i = start;
    for (; i + kLanes <= end; i += kLanes) lanes += load(x + i) * load(y + i);
    sum += horizontal_sum(lanes);
    for (; i < end; ++i) sum += static_cast<double>(x[i]) * y[i];
  }
  return sum;
}

// One view: its standardised columns, their statistics, and its gradient.
struct View {
  Matrix x;
  float* gradient;
  std::vector<double> mean, squares;
  std::vector<float> center, rest, scale, slope;

  View(const Matrix& matrix, float* out)
      : x(matrix),
        gradient(out),
        mean(x.cols),
        squares(x.cols),
        center(x.cols),
        rest(x.cols),
        scale(x.cols),
        slope(x.cols) {}

  // With s the squared deviations of a column, slope is 2 scale'(s) / scale².
  void standardize(const CovarianceLoss& p) {
    const double degrees = std::max(x.rows - p.correction, 1.0);
    for (int64_t j = 0; j < x.cols; ++j) {
      center[j] = static_cast<float>(mean[j]);
      rest[j] = static_cast<float>(mean[j] - center[j]);
      const double deviation = std::sqrt(squares[j] / degrees + p.eps);
      scale[j] = p.standardized ? static_cast<float>(1 / (deviation + p.outer_eps)) : 1.0f;
      const bool pulls = p.standardized && deviation != 0;  // not if all values are equal
      slope[j] = pulls ? static_cast<float>(-1 / (degrees * deviation)) : 0.0f;
    }
  }

  Columns columns() const { return {x, center.data(), rest.data(), scale.data(), false}; }
  Columns transposed() const {
    const Matrix t{x.data, x.dtype, x.cols, x.rows, x.col_stride, x.row_stride};
    return {t, center.data(), rest.data(), scale.data(), true};
  }
};

class CovarianceSolver {
 public:
  CovarianceSolver(const CovarianceLoss& problem, float* da, float* db)
      : p_(problem),
        n_(problem.a.rows),
        d_(problem.a.cols),
        threads_(static_cast<int>(std::clamp<int64_t>(n_ * d_ * std::min(n_, d_) / kThreadWork, 1,
                                                      std::max(1, problem.threads)))),
        a_(problem.a, da),
        b_(problem.b, db),
        products_(d_) {}

  double solve() {
    pair_statistics({a_.x, a_.mean.data(), a_.squares.data()},
                    {b_.x, b_.mean.data(), b_.squares.data()}, products_.data(), threads_);
    a_.standardize(p_);
    b_.standardize(p_);
    if (p_.cross) {
      norm(a_, b_);
    } else {
      norm(a_, a_);
      norm(b_, b_);
    }
    if (p_.distance) keep_close();
    return loss_;
  }

 private:
  // The terms of C = âᵀ b̂, and their gradients.
  void norm(View& a, View& b) {
    const bool own = &a == &b;
    std::vector<double> diagonal(d_);
    for (int64_t j = 0; j < d_; ++j)
      diagonal[j] = (own ? a.squares[j] : products_[j]) * a.scale[j] * b.scale[j];
    float *first, *second = nullptr;
    double square = 0;
    std::vector<double> row_squares(d_), column_squares(d_);  // of C without its diagonal
    if (p_.samples) {
      first = gram(a);
      second = own ? first : gram(b);
      square = inner_product(first, second, n_ * n_);
      for (const double x : diagonal) square -= x * x;
    } else {
      first = arena_.take(d_ * d_);
      standardized_product(a.transposed(), b.columns(), own, threads_, {first, d_, false});
      for (int64_t j = 0; j < d_; ++j) first[j * d_ + j] = 0.0f;
      add_squares(first, row_squares, column_squares);
      for (const double x : row_squares) square += x;
    }
    loss_ += p_.off_diagonal * square;
    std::vector<double> by_diagonal(d_, 0.0);  // the derivative in C_jj
    for (int64_t j = 0; p_.cross && j < d_; ++j) {
      const double error = diagonal[j] / n_ - 1;
      loss_ += p_.diagonal * error * error;
      by_diagonal[j] = 2 * p_.diagonal * error / n_;
    }
    if (a.gradient) gradient(a, b, own, first, second, row_squares, diagonal, by_diagonal);
    if (!own && b.gradient)
      gradient(b, a, own, first, first, column_squares, diagonal, by_diagonal);
    if (own && p_.variance) spread(a);
  }

  float* gram(const View& x) {
    float* out = arena_.take(n_ * n_);
    standardized_product(x.columns(), x.transposed(), true, threads_, {out, n_, false});
    std::vector<double> squares(n_);
    row_squares(x.columns(), threads_, squares.data());
    for (int64_t i = 0; i < n_; ++i) out[i * n_ + i] = static_cast<float>(squares[i]);
    return out;
  }

  // Derivative in view x of the terms of C with `other`. For samples, the Gram is the other view's.
  void gradient(View& x, View& other, bool own, float* product, float* other_gram,
                const std::vector<double>& squares, const std::vector<double>& diagonal,
                const std::vector<double>& by_diagonal) {
    const double times = own ? 2 : 1;
    std::vector<float> weight(d_);
    if (p_.samples) {
      float* gram = own || &x == &b_ ? product : other_gram;
      std::vector<float> large(n_);  // the Gram's diagonal, multiplied separately
      for (int64_t i = 0; i < n_; ++i) large[i] = gram[i * (n_ + 1)], gram[i * (n_ + 1)] = 0.0f;
      scale_rows(x.columns(), large.data(), threads_, x.gradient);
      const Matrix rest{gram, DType::float32, n_, n_, n_, 1};
      standardized_product({rest, nullptr, nullptr, nullptr, false}, x.columns(), false, threads_,
                           {x.gradient, d_, true});
      for (int64_t i = 0; i < n_; ++i) gram[i * (n_ + 1)] = large[i];
      for (int64_t j = 0; j < d_; ++j)
        weight[j] =
            static_cast<float>(times * (by_diagonal[j] - 2 * p_.off_diagonal * diagonal[j]));
      std::vector<double> sums(2 * d_);
      finish_columns({x.columns(), other.columns(), x.gradient, d_, weight.data(), x.slope.data(),
                      2 * times * p_.off_diagonal, static_cast<double>(n_), sums.data(), true,
                      true},
                     threads_);
      return;
    }
    const bool is_right = &x == &b_ && !own;  // C has its features as columns
    const Matrix c{product, DType::float32, d_, d_, is_right ? d_ : 1, is_right ? 1 : d_};
    standardized_product(other.columns(), {c, nullptr, nullptr, nullptr, false}, false, threads_,
                         {x.gradient, d_, false});
    finish(x, other, times, squares, diagonal, by_diagonal);
  }

// With g = factor · product + weight · other, x's gradient is scale · g + slope · Σ(g · own) ·
// own. The sums of g are 0, since columns are centred; Σ(g · own) follows from C: ``squares`` are
// the sums of squares of each feature's off-diagonal entries.
  void finish(View& x, View& other, double times, const std::vector<double>& squares,
              const std::vector<double>& diagonal, const std::vector<double>& by_diagonal) {
    const double factor = 2 * times * p_.off_diagonal;
    std::vector<float> product(d_), weight(d_), pull(d_);
    for (int64_t j = 0; j < d_; ++j) {
      const double own = times * by_diagonal[j];
      product[j] = static_cast<float>(x.scale[j] * factor);
      weight[j] = static_cast<float>(x.scale[j] * own);
      pull[j] = static_cast<float>(x.slope[j] * (factor * squares[j] + own * diagonal[j]));
    }
    const int d = static_cast<int>(d_);
    for_each_row([&](int64_t i, float* row, float* theirs) {
      float* gradient = x.gradient + i * d_;
      if (&x == &other && !p_.standardized) {
        for (int j = 0; j < d; ++j) gradient[j] *= product[j];
        return;
      }
      read(x.columns(), i, 0, true, d, row);
      read(other.columns(), i, 0, true, d, theirs);
      for (int j = 0; j < d; ++j)
        gradient[j] = product[j] * gradient[j] + weight[j] * theirs[j] + pull[j] * row[j];
    });
  }

  // Σ c² of each row, and of each column.
  void add_squares(const float* c, std::vector<double>& rows, std::vector<double>& columns) const {
    std::vector<float> part(d_);
    for (int64_t start = 0; start < d_; start += kExactRows) {
      std::fill(part.begin(), part.end(), 0.0f);
      for (int64_t i = start; i < std::min(d_, start + kExactRows); ++i) {
        const float* row = c + i * d_;
        rows[i] += inner_product(row, row, d_);
        for (int64_t j = 0; j < d_; ++j) part[j] += row[j] * row[j];
      }
      for (int64_t j = 0; j < d_; ++j) columns[j] += part[j];
    }
  }

  // The lower bound on each column's variance.
  void spread(View& x) {
    std::vector<float> pull(d_, 0.0f);
    for (int64_t j = 0; j < d_; ++j) {
      const double deviation = std::sqrt(x.squares[j] / (n_ - 1.0) + p_.variance_eps);
      if (deviation > 1) continue;  // NaN: the loss is NaN
      loss_ += p_.variance * (1 - deviation);
      pull[j] = static_cast<float>(-p_.variance / (deviation * (n_ - 1.0)));
    }
    if (!x.gradient) return;
    const std::vector<float> ones(d_, 1.0f);
    const Columns centered{x.x, x.center.data(), x.rest.data(), ones.data(), false};
    for_each_row([&](int64_t i, float* row, float*) {
      read(centered, i, 0, true, static_cast<int>(d_), row);
      float* gradient = x.gradient + i * d_;
      for (int64_t j = 0; j < d_; ++j) gradient[j] += pull[j] * row[j];
    });
  }

  void keep_close() {
    std::vector<double> sums(n_);
    const Columns a{a_.x, nullptr, nullptr, nullptr, false},
        b{b_.x, nullptr, nullptr, nullptr, false};
    const float factor = static_cast<float>(2 * p_.distance);
    for_each_row([&](int64_t i, float* left, float* right) {
      read(a, i, 0, true, static_cast<int>(d_), left);
      read(b, i, 0, true, static_cast<int>(d_), right);
      for (int64_t j = 0; j < d_; ++j) left[j] -= right[j];
      sums[i] = inner_product(left, left, d_);
      for (int64_t j = 0; a_.gradient && j < d_; ++j) a_.gradient[i * d_ + j] += factor * left[j];
      for (int64_t j = 0; b_.gradient && j < d_; ++j) b_.gradient[i * d_ + j] -= factor * left[j];
    });
    for (const double x : sums) loss_ += p_.distance * x;
  }

  // Calls body(i, two rows of scratch) from all threads.
  template <class Body>
  void for_each_row(const Body& body) {
    std::vector<float> rows(2 * d_ * threads_);
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1)
    for (int t = 0; t < threads_; ++t) {
      float* row = rows.data() + 2 * d_ * t;
      for (int64_t i = n_ * t / threads_; i < n_ * (t + 1) / threads_; ++i) body(i, row, row + d_);
    }
  }

  const CovarianceLoss& p_;
  const int64_t n_, d_;
  const int threads_;
  Arena arena_;
  View a_, b_;
  std::vector<double> products_;  // of their centred columns
  double loss_ = 0;
};

}  // namespace

double covariance_loss(const CovarianceLoss& problem, float* da, float* db) {
  return CovarianceSolver(problem, da, db).solve();
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
