// Pillow's antialiased resize of bytes: one axis after the other, rounded to levels after each.
#pragma once

#include <cmath>
#include <vector>

#include "levels.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

inline double bicubic(double x) {
  const double near = (1.5 * x - 2.5) * x * x + 1, far = (((x - 5) * x + 8) * x - 4) * -0.5;
  return x < 1 ? near : x < 2 ? far : 0;
}

inline double bilinear(double x) { return x < 1 ? 1 - x : 0; }

constexpr int kFractionBits = 22;

// The source pixels of each new one along an axis, and their weights in multiples of 2^-22.
class Filter {
 public:
  void prepare(int length, int size, bool cubic) {
    const double step = double(length) / size, scale = std::max(step, 1.0);
    const double reach = scale * (cubic ? 2 : 1);
    most_ = 2 * static_cast<int>(std::ceil(reach)) + 1;
    first_.resize(size);
    count_.resize(size);
    weights_.resize(int64_t(size) * most_);
    raw_.resize(most_);
    for (int i = 0; i < size; ++i) {
      const double center = (i + 0.5) * step;
      const int first = std::max(0, static_cast<int>(center - reach + 0.5));
      const int count = std::min(length, static_cast<int>(center + reach + 0.5)) - first;
      double sum = 0;
      for (int k = 0; k < count; ++k) {
        const double at = std::fabs((k + first - center + 0.5) * (1 / scale));
        raw_[k] = cubic ? bicubic(at) : bilinear(at);
      }
      for (int k = 0; k < count; ++k) sum += raw_[k];
      first_[i] = first;
      count_[i] = count;
      for (int k = 0; k < count; ++k) {
        const double whole = raw_[k] / sum * (1 << kFractionBits);
        weights_[int64_t(i) * most_ + k] = static_cast<int32_t>(whole + std::copysign(0.5, whole));
      }
    }
  }
  int first(int i) const { return first_[i]; }
  int count(int i) const { return count_[i]; }
  const int32_t* weights(int i) const { return &weights_[int64_t(i) * most_]; }

 private:
  int most_ = 0;
  std::vector<int> first_, count_;
  std::vector<int32_t> weights_;
  std::vector<double> raw_;
};

// Writes weighted sums, rounded to the nearest level.
inline void store_sums(uint8_t* p, VecInt sums) {
  store_levels(p, (sums + (1 << (kFractionBits - 1))) >> kFractionBits);
}

// Each row of bytes, `width` of them, from rows of the source. Reads no byte beyond `readable` of a
// row; writes up to kLanes - 1 bytes beyond a row, which later rows overwrite.
inline void resize_columns(const uint8_t* source, int64_t source_stride, int64_t readable,
                           const Filter& filter, int size, int64_t width, uint8_t* out,
                           int64_t out_stride) {
  constexpr int kTogether = 4;
  for (int i = 0; i < size; ++i) {
    const uint8_t* rows = source + filter.first(i) * source_stride;
    const int32_t* weights = filter.weights(i);
    const int count = filter.count(i);
    uint8_t* to = out + i * out_stride;
    int64_t x = 0;
    for (; x + kTogether * kLanes <= std::min(width, readable); x += kTogether * kLanes) {
      VecInt sum[kTogether]{};
      for (int k = 0; k < count; ++k)
        for (int v = 0; v < kTogether; ++v)
          sum[v] += load_integers(rows + k * source_stride + x + v * kLanes) * weights[k];
      for (int v = 0; v < kTogether; ++v) store_sums(to + x + v * kLanes, sum[v]);
    }
    for (; x < width; x += kLanes) {
      const int64_t at = std::min(x, readable - kLanes);
      VecInt sum{};
      for (int k = 0; k < count; ++k)
        sum += load_integers(rows + k * source_stride + at) * weights[k];
      store_sums(to + at, sum);
    }
  }
}

// Working memory of resize_rows.
struct Turned {
  std::vector<int32_t> levels;  // (bytes of a row, kBytes rows)
  std::vector<uint8_t> bytes;   // (channels, size, kBytes rows)
};

// Rows of pixels of interleaved channels become rows of `size` levels in planes. At least kBytes
// bytes of each row can be read. Flipped: from right to left.
template <int channels>
inline void resize_rows(const uint8_t* source, int64_t source_stride, int64_t rows, int64_t width,
                        const Filter& filter, int size, bool flipped, Turned& turned, uint8_t* out,
                        int64_t plane) {
  const int64_t bytes = width * channels;
  const int64_t padded = (size + kBytes - 1) / kBytes * kBytes;
  turned.levels.resize(std::max<int64_t>(bytes, kBytes) * kBytes);
  turned.bytes.resize(channels * padded * kBytes);
  int32_t* levels = turned.levels.data();
  for (int64_t row = 0; row < rows; row += kBytes) {
    const int height = static_cast<int>(std::min<int64_t>(kBytes, rows - row));
    for (int64_t x = 0; x < bytes; x += kBytes) {
      const int64_t at = std::max<int64_t>(0, std::min(x, bytes - kBytes));
      const uint8_t* from[kBytes];
      for (int i = 0; i < kBytes; ++i)
        from[i] = source + (row + std::min(i, height - 1)) * source_stride + at;
      uint8_t tile[kBytes][kBytes];
      transpose_bytes(from, tile);
      for (int i = 0; i < kBytes; ++i)
        for (int lane = 0; lane < kBytes; lane += kLanes)
          store(levels + (at + i) * kBytes + lane, load_integers(tile[i] + lane));
    }
    for (int x = 0; x < size; ++x) {
      const int32_t* weights = filter.weights(x);
      const int count = filter.count(x);
      const int to = flipped ? size - 1 - x : x;
      for (int lane = 0; lane < kBytes; lane += kLanes) {
        const int32_t* from = levels + filter.first(x) * channels * kBytes + lane;
        VecInt sum[channels]{};
        for (int k = 0; k < count; ++k)
          for (int c = 0; c < channels; ++c)
            sum[c] += load(from + (k * channels + c) * kBytes) * weights[k];
        for (int c = 0; c < channels; ++c)
          store_sums(&turned.bytes[(c * padded + to) * kBytes + lane], sum[c]);
      }
    }
    for (int c = 0; c < channels; ++c)
      for (int x = 0; x < size; x += kBytes) {
        const uint8_t* from[kBytes];
        for (int i = 0; i < kBytes; ++i) from[i] = &turned.bytes[(c * padded + x + i) * kBytes];
        uint8_t tile[kBytes][kBytes];
        transpose_bytes(from, tile);
        uint8_t* to = out + c * plane + row * size + x;
        const int wide = std::min(kBytes, size - x);
        for (int i = 0; i < height; ++i)
          if (wide == kBytes)
            std::memcpy(to + i * size, tile[i], kBytes);
          else
            std::memcpy(to + i * size, tile[i], wide);
      }
  }
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
