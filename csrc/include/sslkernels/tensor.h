// The description of a tensor: memory, element type, shape and strides. No torch, no Python.
#pragma once

#include <cstdint>

namespace sslkernels {

enum class DType : int { float32 = 0, bfloat16 = 1, float16 = 2 };

constexpr int64_t item_size(DType dtype) { return dtype == DType::float32 ? 4 : 2; }

struct Matrix {
  const void* data;
  DType dtype;
  int64_t rows, cols;
  int64_t row_stride, col_stride;  // in elements
};

}  // namespace sslkernels
