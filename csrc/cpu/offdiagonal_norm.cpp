// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/offdiagonal_norm.h"

#include <array>
#include <memory>
#include <vector>

#include "product.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

namespace {

constexpr int kStrip = 512;     // columns per thread at a time
constexpr int kExactRows = 32;  // summed in float before adding to a double

// A tile of the product: whole strips of the micro-kernel are written to `out` directly, the rest
// through the scratch.
void multiply_tile(const PackedLeft& x, const PackedRight& y, int row, int rows, int column,
                   int columns, int depth, bool accumulate, float* out, long out_row,
                   float* scratch) {
  if (rows % kMicroRows == 0 && columns % kLanes == 0) {
    gemm(rows, columns, depth, x.from(row), y.from(column), out, out_row, 1.0f, accumulate);
    return;
  }
  gemm(rows, columns, depth, x.from(row), y.from(column), scratch, kProductColumns, 1.0f, false);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) {
      const float sum = scratch[i * kProductColumns + j];
      out[i * out_row + j] = accumulate ? out[i * out_row + j] + sum : sum;
    }
}

// The tiles of the threads: few are split finer, so that every thread has work.
int tile_height(int64_t n, int64_t m, int threads) {
  int rows = n * m >= 1 << 20 ? 96 : 48;
  const int64_t columns = (m + kProductColumns - 1) / kProductColumns;
  while (threads > 1 && rows > 2 * kMicroRows && n / rows * columns < 4 * threads) rows /= 2;
  return rows;
}

// Calls body(first, count) for strips of columns, each in one thread.
template <class Body>
void for_each_strip(int64_t d, int threads, const Body& body) {
  const int64_t share = (d + threads - 1) / threads;
  const int64_t lanes = (std::max<int64_t>(share, 1) + kLanes - 1) / kLanes * kLanes;
  const int64_t width = std::min<int64_t>(kStrip, lanes);
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (int64_t first = 0; first < d; first += width)
    body(first, static_cast<int>(std::min(width, d - first)));
}

// Calls body(start, end) for blocks of rows.
template <class Body>
void for_each_block(int64_t rows, const Body& body) {
  for (int64_t start = 0; start < rows; start += kExactRows)
    body(start, std::min(rows, start + kExactRows));
}

// Sums of one matrix, or of two and of the products of their columns.
template <int kCount>
void statistics(const std::array<ColumnStatistics, kCount>& of, double* products, int threads) {
  const int64_t n = of[0].x.rows;
  for_each_strip(of[0].x.cols, threads, [&](int64_t first, int count) {
    float row[kCount][kStrip], center[kCount][kStrip];
    double mean[kCount][kStrip] = {}, sum[kCount][kStrip] = {}, square[kCount][kStrip] = {};
    double product[kStrip] = {};
    const auto read_row = [&](int64_t i) {
      for (int v = 0; v < kCount; ++v)
        read({of[v].x, nullptr, nullptr, nullptr, false}, i, first, true, count, row[v]);
    };
    for_each_block(n, [&](int64_t start, int64_t end) {
      float part[kCount][kStrip] = {};
      for (int64_t i = start; i < end; ++i) {
        read_row(i);
        for (int v = 0; v < kCount; ++v)
          for (int j = 0; j < count; ++j) part[v][j] += row[v][j];
      }
      for (int v = 0; v < kCount; ++v)
        for (int j = 0; j < count; ++j) mean[v][j] += part[v][j];
    });
    for (int v = 0; v < kCount; ++v)
      for (int j = 0; j < count; ++j) center[v][j] = static_cast<float>(mean[v][j] / n);
    for_each_block(n, [&](int64_t start, int64_t end) {
      float part[kCount][kStrip] = {}, squares[kCount][kStrip] = {}, cross[kStrip] = {};
      for (int64_t i = start; i < end; ++i) {
        read_row(i);
        for (int v = 0; v < kCount; ++v)
          for (int j = 0; j < count; ++j) {
            row[v][j] -= center[v][j];
            part[v][j] += row[v][j];
            squares[v][j] += row[v][j] * row[v][j];
          }
        if constexpr (kCount == 2)
          for (int j = 0; j < count; ++j) cross[j] += row[0][j] * row[1][j];
      }
      for (int v = 0; v < kCount; ++v)
        for (int j = 0; j < count; ++j) sum[v][j] += part[v][j], square[v][j] += squares[v][j];
      for (int j = 0; j < count; ++j) product[j] += cross[j];
    });
    for (int v = 0; v < kCount; ++v)
      for (int j = 0; j < count; ++j) {
        of[v].mean[first + j] = center[v][j] + sum[v][j] / n;
        of[v].squares[first + j] = square[v][j] - sum[v][j] * sum[v][j] / n;
      }
    for (int j = 0; products && j < count; ++j)
      products[first + j] = product[j] - sum[0][j] * sum[kCount - 1][j] / n;
  });
}

}  // namespace

void standardized_product(const Columns& x, const Columns& y, bool symmetric, int threads,
                          const Output& out) {
  const int64_t n = x.x.rows, m = y.x.cols, depth = x.x.cols;
  if (depth == 0 && !out.accumulate)
    for (int64_t i = 0; i < n; ++i) std::fill_n(out.data + i * out.row_stride, m, 0.0f);
  const int most_rows = static_cast<int>(std::min<int64_t>(n, kPackedRows));
  const int most_columns = static_cast<int>(std::min<int64_t>(m, kPackedRows));
  const int tile_rows = tile_height(n, m, threads);
  const int most_depth = static_cast<int>(std::min<int64_t>(depth, kPackedDepth));
  const size_t scratch_size =
      static_cast<size_t>(round_up(tile_rows, kMicroRows)) * kProductColumns;
  Arena arena;
  PackedLeft left(x, most_rows, most_depth, arena);
  PackedRight right(y, most_columns, most_depth, arena);
  float* scratches = arena.take(scratch_size * threads);
#pragma omp parallel num_threads(threads)
  {
    float* scratch = scratches + scratch_size * this_thread();
    for (int64_t jb = 0; jb < m; jb += kPackedRows)
      for (int64_t ib = 0; ib < (symmetric ? std::min(n, jb + kPackedRows) : n); ib += kPackedRows)
        for (int64_t k = 0; k < depth; k += kPackedDepth) {
          const int rows = static_cast<int>(std::min<int64_t>(kPackedRows, n - ib));
          const int columns = static_cast<int>(std::min<int64_t>(kPackedRows, m - jb));
          const int deep = static_cast<int>(std::min<int64_t>(kPackedDepth, depth - k));
#pragma omp for schedule(static)
          for (int share = 0; share < threads; ++share) {
            left.pack(ib, rows, k, deep, share, threads);
            right.pack(k, deep, jb, columns, share, threads);
          }
          const int row_tiles = (rows + tile_rows - 1) / tile_rows;
          const int column_tiles = (columns + kProductColumns - 1) / kProductColumns;
#pragma omp for schedule(dynamic)
          for (int task = 0; task < row_tiles * column_tiles; ++task) {
            const int i = task / column_tiles * tile_rows;
            int j = task % column_tiles * kProductColumns;
            const int height = std::min(tile_rows, rows - i);
            const int end = std::min(columns, j + kProductColumns);
            if (symmetric)  // from the diagonal on
              j = std::max<int64_t>(j, std::min<int64_t>(end, ib + i - jb) / kPanel * kPanel);
            if (j >= end || (symmetric && jb + end <= ib + i)) continue;
            multiply_tile(left, right, i, height, j, end - j, deep, out.accumulate || k > 0,
                          out.data + (ib + i) * out.row_stride + jb + j, out.row_stride, scratch);
          }
        }
    if (symmetric) {
#pragma omp for schedule(dynamic, 16)
      for (int64_t i = 0; i < n; ++i)
        for (int64_t j = 0; j < i; ++j)
          out.data[i * out.row_stride + j] = out.data[j * out.row_stride + i];
    }
  }
}

void row_squares(const Columns& x, int threads, double* out) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < x.x.rows; ++i) {
    float row[kStrip];
    double sum = 0;
    for (int64_t first = 0; first < x.x.cols; first += kStrip) {
      const int count = static_cast<int>(std::min<int64_t>(kStrip, x.x.cols - first));
      std::fill_n(row, kStrip, 0.0f);
      read(x, i, first, true, count, row);
      Vec squares{};
      for (int j = 0; j < round_up(count, kLanes); j += kLanes)
        squares += load(row + j) * load(row + j);
      sum += horizontal_sum(squares);
    }
    out[i] = sum;
  }
}

void scale_rows(const Columns& x, const float* factors, int threads, float* out) {
  const int64_t d = x.x.cols;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < x.x.rows; ++i)
    for (int64_t first = 0; first < d; first += kStrip) {
      const int count = static_cast<int>(std::min<int64_t>(kStrip, d - first));
      float* row = out + i * d + first;
      read(x, i, first, true, count, row);
      for (int j = 0; j < count; ++j) row[j] *= factors[i];
    }
}

void column_statistics(const Matrix& x, int threads, double* mean, double* squares) {
  statistics<1>({{{x, mean, squares}}}, nullptr, threads);
}

void pair_statistics(const ColumnStatistics& a, const ColumnStatistics& b, double* products,
                     int threads) {
  statistics<2>({{a, b}}, products, threads);
}

void column_dot(const Columns& a, const Columns& b, int threads, double* out) {
  for_each_strip(a.x.cols, threads, [&](int64_t first, int count) {
    float left[kStrip], right[kStrip];
    std::fill_n(out + first, count, 0.0);
    for_each_block(a.x.rows, [&](int64_t start, int64_t end) {
      float part[kStrip] = {};
      for (int64_t i = start; i < end; ++i) {
        read(a, i, first, true, count, left);
        read(b, i, first, true, count, right);
        for (int j = 0; j < count; ++j) part[j] += left[j] * right[j];
      }
      for (int j = 0; j < count; ++j) out[first + j] += part[j];
    });
  });
}

void finish_columns(const Finish& p, int threads) {
  const int64_t n = p.own.x.rows, d = p.own.x.cols;
  const float factor = static_cast<float>(p.factor);
  for_each_strip(d, threads, [&](int64_t first, int count) {
    float own[kStrip], other[kStrip], shift[kStrip], pull[kStrip];
    double* sum = p.sums + first;
    double* along = p.sums + d + first;
    const auto gradient = [&](int64_t i, float* product) {
      read(p.own, i, first, true, count, own);
      read(p.other, i, first, true, count, other);
      for (int j = 0; j < count; ++j)
        product[j] = factor * product[j] + p.weight[first + j] * other[j];
    };
    if (p.compute) {
      std::fill_n(sum, count, 0.0);
      std::fill_n(along, count, 0.0);
      float more[kStrip];
      for (int64_t start = 0; start < n; start += kExactRows) {
        std::fill_n(shift, kStrip, 0.0f);
        std::fill_n(more, kStrip, 0.0f);
        for (int64_t i = start; i < std::min(n, start + kExactRows); ++i) {
          float* product = p.product + i * p.row_stride + first;
          gradient(i, product);
          for (int j = 0; j < count; ++j) {
            shift[j] += product[j];
            more[j] += product[j] * own[j];
          }
        }
        for (int j = 0; j < count; ++j) {
          sum[j] += shift[j];
          along[j] += more[j];
        }
      }
    }
    if (!p.apply) return;
    for (int j = 0; j < count; ++j) {
      shift[j] = static_cast<float>(sum[j] / p.count);
      pull[j] = p.slope ? static_cast<float>(p.slope[first + j] * along[j]) : 0.0f;
    }
    for (int64_t i = 0; i < n; ++i) {
      float* product = p.product + i * p.row_stride + first;
      read(p.own, i, first, true, count, own);
      for (int j = 0; j < count; ++j)
        product[j] = p.own.scale[first + j] * (product[j] - shift[j]) + pull[j] * own[j];
    }
  });
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
