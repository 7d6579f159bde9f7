// A Gaussian blur of one plane of levels, reflected at the edges.
#pragma once

#include <cmath>
#include <vector>

#include "levels.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

constexpr int kMostTaps = 11;  // on each side

// Weights of the centre and of one side. Those too small to change a level are left out.
struct Gaussian {
  int radius;
  float weights[kMostTaps + 1];
  Gaussian(float sigma, int size) {
    const int most = std::min(kMostTaps, size - 1);
    double raw[kMostTaps + 1], sum = 0;
    for (int k = 0; k <= most; ++k) {
      raw[k] = std::exp(-0.5 * (k / double(sigma)) * (k / double(sigma)));
      sum += k ? 2 * raw[k] : raw[k];
    }
    for (int k = 0; k <= most; ++k) weights[k] = static_cast<float>(raw[k] / sum);
    radius = static_cast<int>(std::min(float(most), std::ceil(5 * sigma)));
  }
};

// Working memory: (size, stride) floats, and one row with its reflected ends.
struct Blurred {
  std::vector<float> rows, wide;
};

inline Vec weighted(const float* center, int64_t step, const Gaussian& gaussian) {
  Vec sum = load(center) * gaussian.weights[0];
  for (int k = 1; k <= gaussian.radius; ++k)
    sum = fused(load(center - k * step) + load(center + k * step), broadcast(gaussian.weights[k]),
                sum);
  return sum;
}

inline int reflected(int i, int size) {
  i = std::abs(i);
  return i < size ? i : 2 * (size - 1) - i;
}

inline void blur(uint8_t* plane, int size, const Gaussian& gaussian, Blurred& memory) {
  const int64_t stride = (size + kLanes - 1) / kLanes * kLanes;
  const int radius = gaussian.radius;
  memory.rows.resize((size + 2 * radius) * stride);
  memory.wide.resize(stride + 2 * (kMostTaps + kLanes));
  float* wide = memory.wide.data() + kMostTaps + kLanes - kMostTaps % kLanes;
  float* rows = memory.rows.data() + radius * stride;
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; x += kLanes) store(wide + x, load_levels(plane + y * size + x));
    for (int k = 1; k <= radius; ++k) {
      wide[-k] = wide[reflected(-k, size)];
      wide[size - 1 + k] = wide[reflected(size - 1 + k, size)];
    }
    for (int x = 0; x < size; x += kLanes)
      store(rows + y * stride + x, weighted(wide + x, 1, gaussian));
  }
  for (int k = 1; k <= radius; ++k) {
    std::memcpy(rows - k * stride, rows + reflected(-k, size) * stride, stride * sizeof(float));
    std::memcpy(rows + (size - 1 + k) * stride, rows + reflected(size - 1 + k, size) * stride,
                stride * sizeof(float));
  }
  for (int y = 0; y < size; ++y)
    for (int x = 0; x < size; x += kLanes)
      store_levels(plane + y * size + x,
                   nearest(weighted(rows + y * stride + x, stride, gaussian)));
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
