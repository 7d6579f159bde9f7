// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/contrastive.h"

#include <optional>
#include <unordered_map>

#include "sslkernels/pairwise_logsumexp.h"
#include "sslkernels/pairwise_softplus.h"
#include "transposed_scores.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

namespace {

constexpr int64_t kThreadWork = 1 << 19;  // multiply-adds worth a thread
constexpr int64_t kNarrow = 512;          // features: wider rows may share cache sets

double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

double sigmoid(double x) {
  const double e = std::exp(-std::abs(x));
  return (x < 0 ? e : 1.0) / (1.0 + e);
}

// Like ScoreMatrix, for scores that are not kept: they are recomputed for gradients.
class Recomputed {
 public:
  Recomputed(const Rows& q, const Rows& k, bool symmetric, const Contrastive& p, bool rows,
             bool columns)
      : pairs_{q.matrix(), k.matrix(), p.scale, p.exclude, symmetric, p.threads, p.bias},
        dq_(rows || symmetric ? q.count() * q.matrix().cols : 0, 0.0f),
        dk_(columns ? k.count() * k.matrix().cols : 0, 0.0f) {}

  void logsumexp(std::vector<double>& rows, std::vector<double>& columns, bool want_columns) const {
    std::vector<float> row(pairs_.q.rows), column(want_columns ? pairs_.k.rows : 0);
    pairwise_logsumexp_forward(pairs_, row.data(), want_columns ? column.data() : nullptr);
    rows.assign(row.begin(), row.end());
    columns.assign(column.begin(), column.end());
  }

  void weigh(const Sides& row, const Sides& column) {
    const Side none{nullptr, nullptr};
    pairwise_logsumexp_backward(
        pairs_, {row.logsumexp.data(), row.gradient.data()},
        column.gradient.empty() ? none : Side{column.logsumexp.data(), column.gradient.data()},
        pointer(dq_), pointer(dk_));
  }

  std::pair<double, double> softplus_sum(float factor, bool weights) {
    std::vector<float> rows(pairs_.q.rows), gradients(pairs_.q.rows, factor);
    pairwise_softplus_forward(pairs_, rows.data());
    double sum = 0, sigma = 0;
    for (const float x : rows) sum += x;
    if (weights) {
      pairwise_softplus_backward(pairs_, gradients.data(), pointer(dq_), pointer(dk_), rows.data());
      for (const float x : rows) sigma += x;
    }
    return {sum, sigma};
  }

  template <class Body>
  void row_gradients(const Body& body) {
    for_each(dq_, pairs_.q.rows, body);
  }
  template <class Body>
  void column_gradients(const Body& body) {
    for_each(dk_, pairs_.k.rows, body);
  }

 private:
  static float* pointer(std::vector<float>& x) { return x.empty() ? nullptr : x.data(); }

  template <class Body>
  void for_each(std::vector<float>& x, int64_t rows, const Body& body) const {
#pragma omp parallel for schedule(static) num_threads(pairs_.threads)
    for (int64_t i = 0; i < rows; ++i) body(i, x.data() + i * pairs_.q.cols);
  }

  const Pairwise pairs_;
  std::vector<float> dq_, dk_;
};

// Which rows share a label, and sums over them.
class Classes {
 public:
  Classes(const int64_t* labels, int64_t rows) : class_(rows) {
    std::unordered_map<int64_t, int64_t> known;
    for (int64_t i = 0; i < rows; ++i) {
      const auto size = static_cast<int64_t>(known.size());
      class_[i] = known.emplace(labels[i], size).first->second;
      if (class_[i] == size) count_.push_back(0);
      ++count_[class_[i]];
    }
  }

  int64_t others(int64_t i) const { return count_[class_[i]] - 1; }

  // Σ factor(i) · row i of every class: (classes, d), in double, since classes may be large.
  template <class Factor>
  std::vector<double> sums(const Rows& x, int64_t d, const Factor& factor) const {
    std::vector<double> out(count_.size() * d, 0.0);
    for (int64_t i = 0; i < x.count(); ++i) {
      const double f = factor(i);
      for (int64_t k = 0; k < d; ++k) out[class_[i] * d + k] += f * x.at(i)[k];
    }
    return out;
  }
  const double* of(const std::vector<double>& sums, int64_t i, int64_t d) const {
    return sums.data() + class_[i] * d;
  }

 private:
  std::vector<int64_t> class_, count_;
};

class Solver {
 public:
  Solver(const Contrastive& problem, const ContrastiveGradients& out)
      : p_(problem),
        out_(out),
        symmetric_(!problem.key.data),
        d_(problem.queries.front().cols),
        n_(count(problem.queries)),
        m_(symmetric_ ? n_ : problem.key.rows),
        threads_(static_cast<int>(
            std::clamp<int64_t>(n_ * m_ * d_ / kThreadWork, 1, std::max(1, problem.threads)))),
        q_(problem.queries, problem.unit_query, d_ > kNarrow, threads_, arena_),
        wants_query_(out.query || out.other),
        wants_(wants_query_ || out.key || out.positive || out.scale || out.bias),
        wants_rows_(wants_query_ || (out.scale && !out.key)) {
    if (!symmetric_) key_.emplace(std::vector{p_.key}, p_.unit_key, false, threads_, arena_);
    if (p_.positive.data)
      positive_.emplace(std::vector{p_.positive}, p_.unit_positive, false, threads_, arena_);
    if (p_.labels) classes_.emplace(p_.labels, n_);
  }

  double solve() {
    find_positives();
    if (are_few() && ScoreMatrix::bytes(m_, n_) <= p_.workspace) {
      TransposedScores scores(q_, k(), p_.scale, p_.bias, p_.exclude, is_shifted(), threads_,
                              arena_, wants_rows_ && p_.form != Form::sigmoid);
      solve(scores);
    } else if (ScoreMatrix::bytes(n_, m_) <= p_.workspace) {
      const bool shifted = is_shifted();
      ScoreMatrix scores(q_, k(), symmetric_, p_.scale, p_.bias, p_.exclude, shifted, threads_,
                         arena_);
      solve(scores);
    } else {
      Recomputed scores(q_, k(), symmetric_, p_, wants_rows_, out_.key);
      solve(scores);
    }
    if (out_.scale) *out_.scale = static_cast<float>(by_scale_);
    if (out_.bias) *out_.bias = static_cast<float>(by_bias_);
    return loss_;
  }

 private:
  static int64_t count(const std::vector<Matrix>& parts) {
    int64_t rows = 0;
    for (const Matrix& part : parts) rows += part.rows;
    return rows;
  }

  // Queries and keys without gradients, such as a queue.
  bool are_few() const {
    return n_ <= kFew && m_ >= 16 * n_ && !p_.columns && !out_.key;
  }
  // Whether exponentials may exceed a float, or values may not be finite.
  bool is_shifted() const {
    const double q_norm = q_.largest_norm(), k_norm = symmetric_ ? q_norm : k().largest_norm();
    return !(std::abs(p_.scale) * q_norm * k_norm <= kFreeLogit);
  }

  const Rows& k() const { return symmetric_ ? q_ : *key_; }
  double weight(int64_t i) const { return p_.weights ? p_.weights[i] : 1.0; }
  bool alone(int64_t i) const { return classes_ && classes_->others(i) == 0; }
  int64_t partner(int64_t i) const { return (i + p_.offset) % m_; }
  const float* positive(int64_t i) const {
    return positive_ ? positive_->at(i) : k().at(partner(i));
  }

  template <class Body>
  void for_each(int64_t count, const Body& body) const {
#pragma omp parallel for schedule(static) num_threads(threads_) if (threads_ > 1)
    for (int64_t i = 0; i < count; ++i) body(i);
  }

  // similarity: ⟨query, its positive⟩; logit: the same scaled and weighted.
  void find_positives() {
    similarity_.resize(n_);
    logit_.resize(n_);
    counted_ = n_;
    if (classes_) class_sums_ = classes_->sums(q_, d_, [](int64_t) { return 1.0; });
    for_each(n_, [&](int64_t i) {
      double similarity = 0;
      if (!classes_) {
        similarity = q_.dot(q_.at(i), positive(i));
      } else if (!alone(i)) {
        const double* sum = classes_->of(class_sums_, i, d_);
        for (int64_t k = 0; k < d_; ++k) similarity += (sum[k] - q_.at(i)[k]) * q_.at(i)[k];
        similarity /= classes_->others(i);
      }
      similarity_[i] = similarity;
      logit_[i] = weight(i) * (p_.scale * similarity + p_.bias);
    });
    for (int64_t i = 0; p_.skip_alone && i < n_; ++i) counted_ -= alone(i);
  }

  template <class Scores>
  void solve(Scores& scores) {
    pull_.assign(n_, 0.0);
    if (p_.form == Form::sigmoid) {
      const auto [loss, sigma] = scores.softplus_sum(1.0f / n_, wants_);
      loss_ = loss / n_;
      by_bias_ = sigma;
      for (int64_t i = 0; i < n_; ++i) {
        loss_ += softplus(-logit_[i]) / n_;
        pull_[i] = -sigmoid(-logit_[i]) / n_;
        by_bias_ += pull_[i];
      }
    } else {
      std::vector<double> rows, columns;
      scores.logsumexp(rows, columns, p_.columns);
      const double share = (p_.columns ? 0.5 : 1.0) / std::max<int64_t>(1, counted_);
      const Sides row = side(rows, share), column = side(columns, share);
      if (wants_) scores.weigh(row, column);
    }
    if (wants_) find_gradients(scores);
  }

  // Adds the loss of the rows (or columns), and the derivatives in their positives.
  Sides side(const std::vector<double>& logsumexp, double share) {
    Sides out;
    for (size_t i = 0; i < logsumexp.size(); ++i) {
      double slope = alone(i) ? 0 : share;
      const double margin = logsumexp[i] - logit_[i];
      if (p_.form == Form::cross_entropy) {
        loss_ += share * softplus(margin);
        slope *= sigmoid(margin);
      } else if (!alone(i)) {
        loss_ += share * margin;
      }
      pull_[i] -= slope * weight(i);
      const bool empty = logsumexp[i] == -kInfinity;  // no gradient of an empty sum
      out.logsumexp.push_back(empty ? kInfinity : static_cast<float>(logsumexp[i]));
      out.gradient.push_back(empty ? 0.0f : static_cast<float>(slope));
    }
    return out;
  }

  template <class Scores>
  void find_gradients(Scores& scores) {
    std::vector<double> along(out_.scale ? (wants_rows_ ? n_ : m_) : 0, 0.0);
    std::vector<double> class_pulls;
    if (classes_)
      class_pulls = classes_->sums(
          q_, d_, [&](int64_t i) { return alone(i) ? 0.0 : pull_[i] / classes_->others(i); });
    if (wants_rows_)
      scores.row_gradients([&](int64_t i, float* g) {
        if (out_.scale) along[i] = q_.dot(g, q_.at(i)) * (symmetric_ ? 0.5 : 1.0);
        if (!wants_query_) return;
        if (classes_) {
          add_class(i, g, class_pulls);
        } else {
          const bool both = symmetric_ && !positive_;  // also its positive's positive
          add(g, positive(i), pull_[i] + (both ? pull_[partner(i)] : 0.0));
        }
        const int64_t first = p_.queries.front().rows;
        if (i < first)
          write(q_, i, g, out_.query, i);
        else
          write(q_, i, g, out_.other, i - first);
      });
    if (out_.key)
      scores.column_gradients([&](int64_t j, float* g) {
        if (out_.scale && !wants_rows_) along[j] = k().dot(g, k().at(j));
        const int64_t i = (j - p_.offset % m_ + m_) % m_;  // the query whose positive it is
        if (!positive_) add(g, q_.at(i), pull_[i]);
        write(k(), j, g, out_.key, j);
      });
    if (out_.positive) {
      std::vector<float> zero(d_ * threads_);
      for_each(n_, [&](int64_t i) {
        float* g = zero.data() + this_thread() * d_;
        std::fill_n(g, d_, 0.0f);
        add(g, q_.at(i), pull_[i]);
        write(*positive_, i, g, out_.positive, i);
      });
    }
    for (const double x : along) by_scale_ += x;
    for (int64_t i = 0; i < n_; ++i) by_scale_ += pull_[i] * similarity_[i];
  }

  void add(float* g, const float* x, double factor) const {
    const float f = static_cast<float>(factor);
    for (int64_t k = 0; k < d_; ++k) g[k] += f * x[k];
  }

  // The gradient of row i by the others of its class, and as one of theirs.
  void add_class(int64_t i, float* g, const std::vector<double>& pulls) const {
    if (alone(i)) return;
    const double share = pull_[i] / classes_->others(i);
    const double *sum = classes_->of(class_sums_, i, d_), *pull = classes_->of(pulls, i, d_);
    const float* x = q_.at(i);
    for (int64_t k = 0; k < d_; ++k)
      g[k] += static_cast<float>(share * (sum[k] - x[k]) + pull[k] - share * x[k]);
  }

  // Stored as row `at` of `out`, which may be null.
  void write(const Rows& x, int64_t i, float* g, float* out, int64_t at) const {
    if (!out) return;
    const float scale = static_cast<float>(p_.scale);
    for (int64_t k = 0; k < d_; ++k) g[k] *= scale;
    x.finish(i, g, out + at * d_);
  }

  const Contrastive& p_;
  const ContrastiveGradients& out_;
  const bool symmetric_;
  const int64_t d_, n_, m_;
  const int threads_;
  Arena arena_;
  const Rows q_;
  const bool wants_query_, wants_, wants_rows_;
  std::optional<Rows> key_, positive_;
  std::optional<Classes> classes_;
  std::vector<double> similarity_, logit_, pull_, class_sums_;
  int64_t counted_ = 0;
  double loss_ = 0, by_scale_ = 0, by_bias_ = 0;
};

}  // namespace

double contrastive(const Contrastive& problem, const ContrastiveGradients& gradients) {
  return Solver(problem, gradients).solve();
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
