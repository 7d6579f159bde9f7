// The rows of a problem as float32, normalised if requested, ready for products.
#pragma once

#include <cmath>
#include <vector>

#include "arena.h"
#include "pack.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

class Rows {
 public:
  // The rows of x, contiguous; x itself if no copy is needed.
  Rows(const std::vector<Matrix>& x, bool unit, bool copied, int threads, Arena& arena)
      : d_(x.front().cols), unit_(unit) {
    for (const Matrix& part : x) count_ += part.rows;
    const Matrix& first = x.front();
    if (x.size() == 1 && !unit && !copied && first.dtype == DType::float32 &&
        first.col_stride == 1 && first.row_stride >= d_ && d_ % kLanes == 0) {
      data_ = static_cast<const float*>(first.data);
      row_ = first.row_stride;
      last_ = arena.take(kMicroRows * row_);
      load_tile(first, whole(), static_cast<int>(count_ - whole()), last_, row_);
      return;
    }
    row_ = round_up(static_cast<int>(d_), kLanes) + kLanes;
    own_ = arena.take(static_cast<size_t>(count_ + kMicroRows) * row_);
    data_ = own_;
    last_ = own_ + whole() * row_;
    std::fill_n(own_ + count_ * row_, kMicroRows * row_, 0.0f);
    if (unit) inverse_.resize(count_);
    int64_t at = 0;
    for (const Matrix& part : x) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
      for (int64_t i = 0; i < part.rows; ++i) load(part, i, at + i);
      at += part.rows;
    }
  }

  const float* at(int64_t i) const { return data_ + i * row_; }
  int64_t whole() const { return count_ / kMicroRows * kMicroRows; }
  const float* last() const { return last_; }  // rows from whole() on, zero-padded to kMicroRows
  int64_t count() const { return count_; }
  long row() const { return row_; }
  bool unit() const { return unit_; }
  float inverse(int64_t i) const { return inverse_[i]; }
  Matrix matrix() const { return {data_, DType::float32, count_, d_, row_, 1}; }

  double largest_norm() const {
    if (unit_) {  // 1 except for rounding, and if not finite
      for (const float x : inverse_)
        if (!(x >= 0 && x < std::numeric_limits<float>::infinity()))
          return std::numeric_limits<double>::infinity();
      return 1.00001;
    }
    double largest = 0;
    for (int64_t i = 0; i < count_; ++i) {
      const double squares = dot(at(i), at(i));
      if (!(squares <= largest)) largest = squares == squares ? squares : INFINITY;
    }
    return std::sqrt(largest);
  }

  double dot(const float* a, const float* b) const {
    double sum = 0;
    int64_t k = 0;
    Vec lanes{};
    for (; k + kLanes <= d_; k += kLanes) lanes += load(a + k) * load(b + k);
    for (int lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
    for (; k < d_; ++k) sum += static_cast<double>(a[k]) * b[k];
    return sum;
  }

  // out = the gradient of the input row, from that of the normalised row.
  void finish(int64_t i, float* gradient, float* out) const {
    float along = 0, factor = 1;
    if (unit_) {
      along = static_cast<float>(dot(gradient, at(i)));
      factor = inverse_[i];
    }
    const float* x = at(i);
    for (int64_t k = 0; k < d_; ++k) out[k] = (gradient[k] - x[k] * along) * factor;
  }

 private:
  static Vec load(const float* p) { return SSLKERNELS_ISA::load(p); }

  void load(const Matrix& x, int64_t i, int64_t at) {
    float* out = own_ + at * row_;
    std::fill(out + d_, out + row_, 0.0f);
    switch (x.dtype) {
      case DType::float32: load_rows<float>(x, i, 1, out, row_); break;
      case DType::bfloat16: load_rows<BFloat16>(x, i, 1, out, row_); break;
      case DType::float16: load_rows<Float16>(x, i, 1, out, row_); break;
    }
    if (!unit_) return;
    const double norm = std::sqrt(dot(out, out));
    // a zero row has gradient 0; NaN stays
    const float inverse = norm <= 1e-12 ? 0.0f : static_cast<float>(1 / norm);
    for (int64_t k = 0; k < d_; ++k) out[k] *= inverse;
    inverse_[at] = inverse;
  }

  int64_t count_ = 0, d_;
  bool unit_;
  const float* data_;
  long row_;
  float *own_ = nullptr, *last_ = nullptr;
  std::vector<float> inverse_;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
