// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/sliced_wasserstein.h"

#include "product.h"
#include "rows.h"
#include "sort_columns.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

namespace {

constexpr int kBlock = 128;               // slices per task: a multiple of every kPanel
constexpr int kRowTile = 96;              // rows per task, a multiple of kMicroRows
constexpr int64_t kMostKept = 1 << 20;    // projections at a time, unless one block is larger
constexpr int64_t kThreadWork = 1 << 19;  // multiply-adds worth a thread
constexpr int kSortWork = 32;             // multiply-adds in the time to sort one projection
constexpr int64_t kExactRows = 64;        // summed in float before adding to a double

class WassersteinSolver {
 public:
  explicit WassersteinSolver(const SlicedWasserstein& problem)
      : p_(problem),
        n_(problem.views.front().rows),
        d_(static_cast<int>(problem.directions.rows)),
        m_(problem.directions.cols),
        views_(static_cast<int64_t>(problem.views.size())),
        blocks_((m_ + kBlock - 1) / kBlock),
        tiles_((n_ + kRowTile - 1) / kRowTile),
        threads_(thread_count()),
        columns_{problem.directions, nullptr, nullptr, nullptr, false} {
    rows_.reserve(views_);
    for (const Matrix& view : p_.views)
      rows_.emplace_back(std::vector<Matrix>{view}, false, false, threads_, arena_);
  }

  double solve(float* dz) {
    const Matrix& a = p_.directions;
    const Columns transposed{
        {a.data, a.dtype, m_, d_, a.col_stride, a.row_stride}, nullptr, nullptr, nullptr, false};
    PackedRight panels(columns_, static_cast<int>(m_), d_, arena_);
    PackedRight back(transposed, dz ? d_ : 0, static_cast<int>(m_), arena_);
    run(threads_, [&](int64_t share) {
      const int own = static_cast<int>(share);
      panels.pack(0, d_, 0, static_cast<int>(m_), own, threads_);
      if (dz) back.pack(0, static_cast<int>(m_), 0, d_, own, threads_);
    });

    const int64_t size = tiles_ * kRowTile * kBlock;  // for the projections of a view on a block
    const int64_t most = std::clamp<int64_t>(kMostKept / (size * views_), 1, blocks_);
    const int64_t rounds = (blocks_ + most - 1) / most;
    float* projections = arena_.take(views_ * most * size);
    const std::vector<float*> keys = buffers(2 * n_ * kLanes), places = buffers(n_ * kLanes),
                              sums = buffers(static_cast<size_t>(kRowTile) * width());
    std::vector<double> losses(views_ * blocks_);
    for (int64_t round = 0; round < rounds; ++round) {
      const int64_t first = blocks_ * round / rounds,
                    count = blocks_ * (round + 1) / rounds - first;
      run(views_ * count, [&](int64_t task) {
        const int64_t view = task / count, block = first + task % count;
        float* p = projections + task * size;
        const int slices = project(view, block, panels, p);
        float* own = keys[this_thread()];
        auto* rows = reinterpret_cast<int32_t*>(places[this_thread()]);
        losses[view * blocks_ + block] =
            dz ? compare<true>(p, slices, own, rows) : compare<false>(p, slices, own, rows);
      });
      if (!dz) continue;
      run(views_ * tiles_, [&](int64_t task) {
        const int64_t view = task / tiles_, row = task % tiles_ * kRowTile;
        differentiate(projections + view * count * size + row * kBlock, size, first, count, row,
                      back, sums[this_thread()], dz + view * n_ * d_);
      });
    }
    double loss = 0;
    for (const double x : losses) loss += x;
    return loss / (static_cast<double>(views_) * n_ * m_);
  }

 private:
  int thread_count() const {
    const double work = static_cast<double>(views_) * n_ * m_ * (d_ + kSortWork) / kThreadWork;
    return static_cast<int>(std::max(1.0, std::min<double>(work, p_.threads)));
  }

  long width() const { return round_up(d_, kLanes) + kLanes; }

  int slices_of(int64_t block) const {
    return static_cast<int>(std::min<int64_t>(kBlock, m_ - block * kBlock));
  }

  // The projections (n, kBlock) of a view on a block of slices; returns the number of slices.
  int project(int64_t view, int64_t block, const PackedRight& panels, float* out) const {
    const Rows& z = rows_[view];
    const int slices = slices_of(block);
    const Right right = panels.from(static_cast<int>(block * kBlock));
    const auto multiply = [&](int64_t row, int rows, const float* data) {
      gemm(rows, slices, d_, {data, z.row(), 1}, right, out + row * kBlock, kBlock, 1.0f, false);
    };
    for (int64_t row = 0; row < z.whole(); row += kRowTile)
      multiply(row, static_cast<int>(std::min<int64_t>(kRowTile, z.whole() - row)), z.at(row));
    if (z.whole() < n_) multiply(z.whole(), static_cast<int>(n_ - z.whole()), z.last());
    return slices;
  }

// Σ (sorted projections - quantiles)². kTracked: these differences replace the projections.
// keys: memory for 2 n vectors; places: for n.
  template <bool kTracked>
  double compare(float* projections, int slices, float* keys, int32_t* places) const {
    double total = 0;
    ColumnSort<kTracked> columns(n_, keys, places);
    for (int j = 0; j < slices; j += kLanes) {
      columns.sort(projections + j, kBlock);
      for (int64_t start = 0; start < n_; start += kExactRows) {
        const int64_t end = std::min(n_, start + kExactRows);
        Vec sum{};
        for (int64_t i = start; i < end; ++i) {
          const Vec difference = load(keys + i * kLanes) - p_.quantiles[i];
          sum += difference * difference;
          if constexpr (kTracked) store(keys + i * kLanes, difference);
        }
        for (int lane = 0; lane < std::min(kLanes, slices - j); ++lane) total += sum[lane];
      }
      if constexpr (kTracked) {
        float* unsorted = keys + n_ * kLanes;  // adjacent, for the cache
        for (int64_t i = 0; i < n_; ++i)
          for (int lane = 0; lane < kLanes; ++lane)
            unsorted[static_cast<int64_t>(places[i * kLanes + lane]) * kLanes + lane] =
                keys[i * kLanes + lane];
        for (int64_t i = 0; i < n_; ++i)
          store(projections + i * kBlock + j, load(unsorted + i * kLanes));
      }
    }
    return total;
  }

  // Adds the part of `count` blocks of slices to some rows of dz: differences · directionsᵀ.
  void differentiate(const float* differences, int64_t size, int64_t first, int64_t count,
                     int64_t row, const PackedRight& back, float* sum, float* dz) const {
    const int rows = static_cast<int>(std::min<int64_t>(kRowTile, n_ - row));
    const float factor = static_cast<float>(2 / (static_cast<double>(views_) * n_ * m_));
    for (int64_t i = 0; i < count; ++i) {
      Right right = back.from(0);
      right.data += (first + i) * kBlock * right.row;
      gemm(rows, d_, slices_of(first + i), {differences + i * size, kBlock, 1}, right, sum, width(),
           factor, i > 0);
    }
    for (int r = 0; r < rows; ++r) {
      const float* from = sum + r * width();
      float* to = dz + (row + r) * d_;
      for (int k = 0; k < d_; ++k) to[k] = first ? to[k] + from[k] : from[k];
    }
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

  const SlicedWasserstein& p_;
  const int64_t n_;
  const int d_;
  const int64_t m_, views_, blocks_, tiles_;
  const int threads_;
  Arena arena_;
  const Columns columns_;
  std::vector<Rows> rows_;
};

}  // namespace

double sliced_wasserstein(const SlicedWasserstein& problem, float* dz) {
  return WassersteinSolver(problem).solve(dz);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
