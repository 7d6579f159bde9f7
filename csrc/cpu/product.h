// x y for matrices larger than the caches, any dtype and strides, standardised while being packed.
#pragma once

#include <algorithm>

#include "arena.h"
#include "pack.h"
#include "sslkernels/offdiagonal_norm.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr int kPackedDepth = 512;     // of x and y, packed at a time
constexpr int kPackedRows = 1152;     // of x, and columns of y
constexpr int kProductColumns = 384;  // of the tile of one thread

template <class T>
inline void read_run(const T* data, int64_t stride, int count, float* out) {
  if (stride == 1)
    for (int t = 0; t < count; ++t) out[t] = to_float(data[t]);
  else
    for (int t = 0; t < count; ++t) out[t] = to_float(data[t * stride]);
}

// `count` entries from (row, column) on, along the row or down the column.
inline void read(const Columns& c, int64_t row, int64_t column, bool along, int count, float* out) {
  const int64_t first = row * c.x.row_stride + column * c.x.col_stride;
  const int64_t stride = along ? c.x.col_stride : c.x.row_stride;
  switch (c.x.dtype) {
    case DType::float32:
      read_run(static_cast<const float*>(c.x.data) + first, stride, count, out);
      break;
    case DType::bfloat16:
      read_run(static_cast<const BFloat16*>(c.x.data) + first, stride, count, out);
      break;
    case DType::float16:
      read_run(static_cast<const Float16*>(c.x.data) + first, stride, count, out);
      break;
  }
  if (!c.mean) return;
  const int64_t feature = c.transposed ? row : column;
  const float *mean = c.mean + feature, *rest = c.rest + feature, *scale = c.scale + feature;
  if (along != c.transposed)
    for (int t = 0; t < count; ++t) out[t] = (out[t] - mean[t] - rest[t]) * scale[t];
  else
    for (int t = 0; t < count; ++t) out[t] = (out[t] - *mean - *rest) * *scale;
}

// A block of x, in the order of memory. Rows are padded to kMicroRows.
class PackedLeft {
 public:
  PackedLeft(const Columns& x, int rows, int depth, Arena& arena)
      : x_(x),
        along_(x.x.col_stride <= x.x.row_stride),
        step_(along_ ? depth + kLanes : round_up(rows, kMicroRows) + kLanes),
        data_(arena.take(static_cast<size_t>(step_) *
                         (along_ ? round_up(rows, kMicroRows) : depth))) {}

  // One of `count` parts of it.
  void pack(int64_t row, int rows, int64_t k, int depth, int share, int count) {
    const int padded = round_up(rows, kMicroRows);
    if (along_) {
      for (int i = share; i < padded; i += count)
        if (i < rows)
          read(x_, row + i, k, true, depth, data_ + i * step_);
        else
          std::fill_n(data_ + i * step_, depth, 0.0f);
    } else {
      for (int t = share; t < depth; t += count) {
        read(x_, row, k + t, false, rows, data_ + t * step_);
        std::fill_n(data_ + t * step_ + rows, padded - rows, 0.0f);
      }
    }
  }

  Left from(int row) const {
    return along_ ? Left{data_ + row * step_, step_, 1} : Left{data_ + row, 1, step_};
  }

 private:
  const Columns& x_;
  const bool along_;
  const long step_;
  float* data_;
};

// A block of y in panels of kPanel columns, padded with zeros.
class PackedRight {
 public:
  PackedRight(const Columns& y, int columns, int depth, Arena& arena)
      : y_(y),
        along_(y.x.col_stride <= y.x.row_stride),
        depth_(depth),
        data_(arena.take(static_cast<size_t>(round_up(columns, kPanel)) * depth)) {}

  void pack(int64_t k, int depth, int64_t column, int columns, int share, int count) {
    constexpr int kRun = 16;
    for (int first = share * kPanel; first < columns; first += count * kPanel) {
      float* panel = data_ + static_cast<long>(first) * depth_;
      const int width = std::min(kPanel, columns - first);
      if (along_) {
        for (int t = 0; t < depth; ++t) {
          read(y_, k + t, column + first, true, width, panel + t * kPanel);
          std::fill_n(panel + t * kPanel + width, kPanel - width, 0.0f);
        }
        continue;
      }
      float run[kRun];
      for (int t = 0; t < depth; t += kRun)
        for (int j = 0; j < kPanel; ++j) {
          const int length = std::min(kRun, depth - t);
          if (j < width)
            read(y_, k + t, column + first + j, false, length, run);
          else
            std::fill_n(run, kRun, 0.0f);
          for (int s = 0; s < length; ++s) panel[(t + s) * kPanel + j] = run[s];
        }
    }
  }

  // `column`: a multiple of kPanel.
  Right from(int column) const {
    return {data_ + static_cast<long>(column) * depth_, kPanel, static_cast<long>(kPanel) * depth_};
  }

 private:
  const Columns& y_;
  const bool along_;
  const int depth_;
  float* data_;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
