// Products of matrices whose columns are standardised while being read, and column-wise passes, on
// the CPU. The maths is in
// sslkernels/primitives/offdiagonal_norm/README.md.
#pragma once

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

// (x - mean - rest) · scale, by feature; x itself if these are null.
struct Columns {
  Matrix x;
  const float* mean;
  const float* rest;  // rounding error of the mean
  const float* scale;
  bool transposed;  // features are rows
};

// The output of a product: rows with a stride, and whether to add to the present values.
struct Output {
  float* data;
  int64_t row_stride;
  bool accumulate;
};

// out (x.rows, y.cols) = x y. Symmetric: out is, so only half of it is computed.
void standardized_product(const Columns& x, const Columns& y, bool symmetric, int threads,
                          const Output& out);

// out (n): the sum of squares of each row of x.
void row_squares(const Columns& x, int threads, double* out);

// out (n, d), contiguous: each row of x times its factor.
void scale_rows(const Columns& x, const float* factors, int threads, float* out);

// mean (d) and the sum of squared deviations from it (d), of the columns of x.
void column_statistics(const Matrix& x, int threads, double* mean, double* squares);

// The same of a and b, and (d) the dot product of each column of a with that of b, both centred.
struct ColumnStatistics {
  Matrix x;
  double *mean, *squares;
};
void pair_statistics(const ColumnStatistics& a, const ColumnStatistics& b, double* products,
                     int threads);

// out (d): the dot product of each column of a with that of b.
void column_dot(const Columns& a, const Columns& b, int threads, double* out);

// From the gradient of standardised columns to that of x, in place of `product`, (n, d):
// g = factor · product + weight · other;  x's gradient = scale · (g - sum(g) / n) + pull · own,
// where pull = slope · sum(g · own).
struct Finish {
  Columns own, other;
  float* product;
  int64_t row_stride;    // of product
  const float* weight;   // (d)
  const float* slope;    // (d), null where the scale is a constant
  double factor, count;  // n, of all ranks
  double* sums;          // (2, d): of g, and of g · own
  bool compute, apply;   // the sums; them
};
void finish_columns(const Finish& problem, int threads);

}  // namespace sslkernels::cpu
