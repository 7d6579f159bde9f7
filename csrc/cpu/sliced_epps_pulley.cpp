// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/sliced_epps_pulley.h"

#include <cmath>

#include "arena.h"
#include "product.h"
#include "rows.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

namespace {

constexpr int kFewRows = 16;  // summed in float before adding to others
constexpr int kRowTile = 96;  // before adding these to a double
constexpr int kSlices = 64;   // per tile: a multiple of every kPanel
constexpr int kMostHalf = kMostKnots / 2;

inline Vec flip_sign(Vec x, VecBits bits) { return (Vec)((VecBits)x ^ bits); }

// cos and sin of the angles step · p, both in float32's full precision for angles up to 1e5: the
// step is given in two floats, a quarter of a turn in two. The polynomials are minimax fits for an
// eighth of a turn, with errors 1e-8 and 7e-10.
struct Angle {
  float high, low, quarters, most;

  explicit Angle(double step)
      : high(static_cast<float>(step)),
        low(static_cast<float>(step - high)),
        quarters(static_cast<float>(step / std::acos(0.0))),
        most(static_cast<float>(1e5 / step)) {}

  void operator()(Vec p, Vec& cosine, Vec& sine) const {
    p = p > most ? broadcast(most) : p < -most ? broadcast(-most) : p;
    const float round_to_integer = 12582912.0f;  // 1.5 * 2^23
    const Vec shifted = p * quarters + round_to_integer;
    const Vec n = shifted - round_to_integer;
    const Vec product = p * high, rest = fma(p, broadcast(high), -product) + p * low;
    const Vec x = product - n * 1.5703125f - n * 4.83826792e-4f, u = x * x;
    const Vec s = x + (x * u * ((u * -1.95875997e-4f + 8.33274610e-3f) * u - 1.66666642e-1f) + rest);
    const Vec q = (u * 2.45439387e-5f - 1.38882722e-3f) * u + 4.16666642e-2f;
    const Vec c = 1.0f + (q * u * u - 0.5f * u);
    const VecBits quadrant = (VecBits)shifted;
    const VecInt swapped = (VecInt)((quadrant & 1u) == 1u);
    sine = flip_sign(swapped ? c : s, (quadrant & 2u) << 30);
    cosine = flip_sign(swapped ? s : c, ((quadrant + 1u) & 2u) << 30);
  }
};

// The first half of the knots of one angle, called in order: body(k, cos, sin) for (k + 1) times
// the angle. Leaves those of the last knot.
template <class Body>
inline void for_each_knot(int half, Vec& cosine, Vec& sine, const Body& body) {
  const Vec chord = sine + sine;
  Vec c_before = broadcast(1.0f), s_before{};
  for (int k = 0;; ++k) {
    body(k, cosine, sine);
    if (k + 1 == half) return;
    const Vec c = c_before - chord * sine, s = s_before + chord * cosine;
    c_before = cosine, s_before = sine, cosine = c, sine = s;
  }
}

// With m = half, cos and sin of the knots m + k follow from those of m - k and the products of
// sin k with sin m and with cos m: only these are summed, (4, half) vectors.
template <int kHalf>
inline void add_rows(const Angle& angle, const float* p, int rows, int any_half, Vec* sums) {
  const int half = kHalf ? kHalf : any_half;
  for (int start = 0; start < rows; start += kFewRows) {
    Vec few[4 * (kHalf ? kHalf : kMostHalf)];
    for (int k = 0; k < 4 * half; ++k) few[k] = Vec{};
    for (int r = start; r < std::min(rows, start + kFewRows); ++r) {
      Vec c, s, sines[kHalf ? kHalf : kMostHalf];
      angle(load(p + r * kSlices), c, s);
      for_each_knot(half, c, s, [&](int k, Vec cosine, Vec sine) {
        few[k] += cosine;
        few[half + k] += sine;
        sines[k] = sine;
      });
      for (int k = 0; k < half; ++k) {
        few[2 * half + k] += s * sines[k];
        few[3 * half + k] += c * sines[k];
      }
    }
    for (int k = 0; k < 4 * half; ++k) sums[k] += few[k];
  }
}

// For one vector of slices: a factor of cos and of sin for each knot up to half, those beyond
// folded into them; two more for the products with sin m and cos m; and a constant.
struct Fold {
  Vec constant, gradient;
  Vec of[4 * kMostHalf];
};

template <int kHalf>
inline void differentiate_rows(const Angle& angle, float* p, int rows, int any_half,
                               const Fold& fold) {
  const int half = kHalf ? kHalf : any_half;
  for (int r = 0; r < rows; ++r) {
    Vec c, s, sum = fold.constant, by_sine{}, by_cosine{};
    angle(load(p + r * kSlices), c, s);
    for_each_knot(half, c, s, [&](int k, Vec cosine, Vec sine) {
      sum += fold.of[k] * cosine + fold.of[half + k] * sine;
      by_sine += fold.of[2 * half + k] * sine;
      by_cosine += fold.of[3 * half + k] * sine;
    });
    store(p + r * kSlices, (sum + by_sine * s + by_cosine * c) * fold.gradient);
  }
}

class SlicedSolver {
 public:
  explicit SlicedSolver(const SlicedEppsPulley& problem)
      : p_(problem),
        n_(problem.views.front().rows),
        d_(static_cast<int>(problem.directions.rows)),
        m_(problem.directions.cols),
        views_(static_cast<int64_t>(problem.views.size())),
        half_((problem.knots + 1) / 2),
        blocks_((m_ + kSlices - 1) / kSlices),
        threads_(std::max(1, problem.threads)),
        angle_(problem.step),
        columns_{problem.directions, nullptr, nullptr, nullptr, false},
        panels_(columns_, static_cast<int>(m_), d_, arena_) {
    rows_.reserve(views_);
    for (const Matrix& view : p_.views)
      rows_.emplace_back(std::vector<Matrix>{view}, false, false, threads_, arena_);
    run(threads_, [&](int64_t share) {
      panels_.pack(0, d_, 0, static_cast<int>(m_), static_cast<int>(share), threads_);
    });
  }

  void sums(float* out) {
    const int64_t tiles = (n_ + kRowTile - 1) / kRowTile, tasks = views_ * blocks_;
    const int64_t parts = std::clamp<int64_t>(4 * threads_ / tasks, 1, tiles);
    const int64_t size = views_ * 2 * p_.knots * m_;
    float* partial = parts == 1 ? out : arena_.take(parts * size);
    const std::vector<float*> spaces = buffers(kRowTile * kSlices);
    const std::vector<float*> sums = buffers(4 * half_ * kSlices);
    run(tasks * parts, [&](int64_t task) {
      const int64_t part = task / tasks, block = task % blocks_, view = task % tasks / blocks_;
      sum_block(view, block, tiles * part / parts, tiles * (part + 1) / parts,
                spaces[this_thread()], reinterpret_cast<Vec*>(sums[this_thread()]),
                partial + part * size);
    });
    if (parts == 1) return;
    for (int64_t i = 0; i < size; ++i) {
      double sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += partial[part * size + i];
      out[i] = static_cast<float>(sum);
    }
  }

  void gradient(const float* coefficients, const float* gradients, float* dz) {
    const Matrix& a = p_.directions;
    const Columns transposed{{a.data, a.dtype, m_, d_, a.col_stride, a.row_stride},
                             nullptr, nullptr, nullptr, false};
    PackedRight panels(transposed, d_, static_cast<int>(m_), arena_);
    run(threads_, [&](int64_t share) {
      panels.pack(0, static_cast<int>(m_), 0, d_, static_cast<int>(share), threads_);
    });
    const long width = round_up(d_, kLanes) + kLanes;
    const std::vector<float*> spaces = buffers(kRowTile * kSlices), sums = buffers(kRowTile * width),
                              folds = buffers(sizeof(Fold) / sizeof(float));
    const int height = row_tile();
    const int64_t tiles = (n_ + height - 1) / height;
    run(views_ * tiles, [&](int64_t task) {
      const int64_t view = task / tiles, first = task % tiles * height;
      const int rows = static_cast<int>(std::min<int64_t>(height, n_ - first));
      float *p = spaces[this_thread()], *sum = sums[this_thread()];
      Fold& fold = *reinterpret_cast<Fold*>(folds[this_thread()]);
      for (int64_t block = 0; block < blocks_; ++block) {
        const int slices = project(view, first, rows, block, p);
        for (int j = 0; j < slices; j += kLanes) {
          fold_coefficients(view, block * kSlices + j, coefficients, gradients, fold);
          differentiate(p + j, rows, fold);
        }
        Right right = panels.from(0);
        right.data += block * kSlices * right.row;
        gemm(rows, d_, slices, {p, kSlices, 1}, right, sum, width, 1.0f, block > 0);
      }
      for (int r = 0; r < rows; ++r)
        std::copy_n(sum + r * width, d_, dz + (view * n_ + first + r) * d_);
    });
  }

 private:
  // The projections of some rows on a block of slices; returns the number of slices.
  int project(int64_t view, int64_t first, int rows, int64_t block, float* p) const {
    const Rows& z = rows_[view];
    const int slices = static_cast<int>(std::min<int64_t>(kSlices, m_ - block * kSlices));
    const int whole = static_cast<int>(std::clamp<int64_t>(z.whole() - first, 0, rows));
    const Right right = panels_.from(static_cast<int>(block * kSlices));
    if (whole)
      gemm(whole, slices, d_, {z.at(first), z.row(), 1}, right, p, kSlices, 1.0f, false);
    if (whole < rows)
      gemm(rows - whole, slices, d_, {z.last(), z.row(), 1}, right, p + whole * kSlices, kSlices,
           1.0f, false);
    return slices;
  }

  void sum_block(int64_t view, int64_t block, int64_t first, int64_t last, float* p, Vec* sums,
                 float* out) const {
    double total[4 * kMostHalf * kSlices];
    std::fill_n(total, 4 * half_ * kSlices, 0.0);
    int64_t count = 0;
    for (int64_t tile = first; tile < last; ++tile) {
      const int rows = static_cast<int>(std::min<int64_t>(kRowTile, n_ - tile * kRowTile));
      const int slices = project(view, tile * kRowTile, rows, block, p);
      for (int j = 0; j < slices; j += kLanes) {
        std::fill_n(sums, 4 * half_, Vec{});
        switch (half_) {
          case 5: add_rows<5>(angle_, p + j, rows, half_, sums); break;
          case 8: add_rows<8>(angle_, p + j, rows, half_, sums); break;
          default: add_rows<0>(angle_, p + j, rows, half_, sums);
        }
        for (int k = 0; k < 4 * half_; ++k)
          for (int lane = 0; lane < kLanes; ++lane) total[k * kSlices + j + lane] += sums[k][lane];
      }
      count += rows;
    }
    const int64_t column = block * kSlices;
    const int slices = static_cast<int>(std::min<int64_t>(kSlices, m_ - column));
    float* cosines = out + view * 2 * p_.knots * m_ + column;
    float* sines = cosines + p_.knots * m_;
    for (int k = 0; k < p_.knots; ++k) {
      const int above = k + 1 - half_, below = half_ - above;  // of the knots beyond half
      for (int j = 0; j < slices; ++j) {
        const auto at = [&](int which, int knot) {
          return total[(which * half_ + knot - 1) * kSlices + j];
        };
        double cosine, sine;
        if (above <= 0) {
          cosine = at(0, k + 1), sine = at(1, k + 1);
        } else {
          cosine = (below ? at(0, below) : static_cast<double>(count)) - 2 * at(2, above);
          sine = (below ? at(1, below) : 0.0) + 2 * at(3, above);
        }
        cosines[k * m_ + j] = static_cast<float>(cosine);
        sines[k * m_ + j] = static_cast<float>(sine);
      }
    }
  }

// dp = Σ_k of_sine_k cos(t_k p) - of_cosine_k sin(t_k p), with coefficients stored consecutively as
// (2, knots, M).
  void fold_coefficients(int64_t view, int64_t column, const float* coefficients,
                         const float* gradients, Fold& fold) const {
    const int lanes = static_cast<int>(std::min<int64_t>(kLanes, m_ - column));
    const float* of_cosine = coefficients + view * 2 * p_.knots * m_ + column;
    const auto read = [&](const float* data) {
      Vec v{};
      if (lanes == kLanes) return SSLKERNELS_ISA::load(data);
      for (int lane = 0; lane < lanes; ++lane) v[lane] = data[lane];
      return v;
    };
    const auto by_cosine = [&](int knot) {
      return knot <= p_.knots ? read(of_cosine + (p_.knots + knot - 1) * m_) : Vec{};
    };
    const auto by_sine = [&](int knot) {
      return knot <= p_.knots ? -read(of_cosine + (knot - 1) * m_) : Vec{};
    };
    fold.constant = by_cosine(2 * half_);
    for (int k = 0; k < half_; ++k) {
      const int knot = k + 1, mirrored = 2 * half_ - knot;
      fold.of[k] = by_cosine(knot);
      fold.of[half_ + k] = by_sine(knot);
      if (knot < half_) {
        fold.of[k] += by_cosine(mirrored);
        fold.of[half_ + k] += by_sine(mirrored);
      }
      fold.of[2 * half_ + k] = by_cosine(half_ + knot) * -2.0f;
      fold.of[3 * half_ + k] = by_sine(half_ + knot) * 2.0f;
    }
    fold.gradient = read(gradients + view * m_ + column);
  }

  void differentiate(float* p, int rows, const Fold& fold) const {
    switch (half_) {
      case 5: differentiate_rows<5>(angle_, p, rows, half_, fold); break;
      case 8: differentiate_rows<8>(angle_, p, rows, half_, fold); break;
      default: differentiate_rows<0>(angle_, p, rows, half_, fold);
    }
  }

  // Few tiles are split finer, so that every thread has work.
  int row_tile() const {
    int rows = kRowTile;
    while (rows > 2 * kMicroRows && views_ * ((n_ + rows - 1) / rows) < 2 * threads_) rows /= 2;
    return rows;
  }

  std::vector<float*> buffers(size_t count) {
    std::vector<float*> out;
    for (int t = 0; t < threads_; ++t) out.push_back(arena_.take(count));
    return out;
  }

  template <class Body>
  void run(int64_t tasks, const Body& body) const {
#pragma omp parallel for schedule(dynamic) num_threads(threads_) if (threads_ > 1)
    for (int64_t task = 0; task < tasks; ++task) body(task);
  }

  const SlicedEppsPulley& p_;
  const int64_t n_;
  const int d_;
  const int64_t m_, views_;
  const int half_;
  const int64_t blocks_;
  const int threads_;
  const Angle angle_;
  Arena arena_;
  const Columns columns_;
  PackedRight panels_;
  std::vector<Rows> rows_;
};

}  // namespace

void sliced_sums(const SlicedEppsPulley& problem, float* sums) {
  SlicedSolver(problem).sums(sums);
}

void sliced_statistics(const SlicedStatistics& p, float* sums, float* statistics) {
  const int64_t knots = static_cast<int64_t>(p.weights.size()), m = p.slices;
  std::vector<double> totals(p.views * m, 0.0);
#pragma omp parallel for schedule(static) num_threads(p.threads) if (p.threads > 1)
  for (int64_t view = 0; view < p.views; ++view) {
    double* total = totals.data() + view * m;
    for (int64_t k = 0; k < 2 * knots; ++k) {
      const double t = p.step * (k % knots + 1), weight = p.weights[k % knots];
      const double target = k < knots ? std::exp(-t * t / 2) : 0.0;
      const double coefficient = 2 * weight * t;
      float* x = sums + (view * 2 * knots + k) * m;
      for (int64_t j = 0; j < m; ++j) {
        const double error = x[j] / p.count - target;
        total[j] += weight * error * error;
        x[j] = static_cast<float>(coefficient * error);
      }
    }
    for (int64_t j = 0; j < m; ++j)
      statistics[view * m + j] = static_cast<float>(p.count * total[j]);
  }
}

void sliced_gradient(const SlicedEppsPulley& problem, const float* coefficients,
                     const float* gradients, float* dz) {
  SlicedSolver(problem).gradient(coefficients, gradients, dz);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
