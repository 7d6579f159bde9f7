// One-read passes over a tile of q kᵀ that a matrix product has just left in the L2 cache.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <stdexcept>
#include <string>

#include "sslkernels/cuda.h"

namespace sslkernels::cuda {
namespace {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr int kWarp = 32;
constexpr int kRowThreads = 256;  // one block reduces one row
constexpr int kColumnWarps = 16;  // one block reduces 32 columns, a warp every 16th row

void check_launch() {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("pairwise_logsumexp: ") + cudaGetErrorString(error));
}

// A partial sum total · 2^maximum; an empty one has maximum -inf.
struct Partial {
  float maximum = -INFINITY, total = 0;

  __device__ void merge(Partial other) {
    const float best = fmaxf(maximum, other.maximum);
    const float shift = best == -INFINITY ? 0 : best;
    total = total * exp2f(maximum - shift) + other.total * exp2f(other.maximum - shift);
    maximum = best;
  }
  __device__ float logsumexp() const {
    return ((maximum == -INFINITY ? 0 : maximum) + log2f(total)) * kLn2;
  }
};

// NaN goes into the total: fmaxf would lose it.
__device__ Partial of_logit(float logit) {
  if (isnan(logit)) return {-INFINITY, logit};
  return {logit, logit == -INFINITY ? 0.0f : 1.0f};
}

// -inf marks an excluded product, whatever the sign of the scale.
__device__ float logit(float product, float scale) {
  return product == -INFINITY ? -INFINITY : product * scale;
}

__device__ Partial reduce_warp(Partial partial) {
  for (int lane = kWarp / 2; lane > 0; lane /= 2) {
    Partial other;
    other.maximum = __shfl_xor_sync(~0u, partial.maximum, lane);
    other.total = __shfl_xor_sync(~0u, partial.total, lane);
    partial.merge(other);
  }
  return partial;
}

__global__ void reduce_rows(Tile tile, float* rows) {
  const float scale = *tile.scale * kLog2E;
  const float* products = tile.products + blockIdx.x * tile.columns;
  Partial partial;
  for (int64_t j = threadIdx.x; j < tile.columns; j += kRowThreads)
    partial.merge(of_logit(logit(products[j], scale)));
  __shared__ Partial warps[kRowThreads / kWarp];
  partial = reduce_warp(partial);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = partial;
  __syncthreads();
  if (threadIdx.x == 0) {
    Partial running = of_logit(rows[blockIdx.x] * kLog2E);
    for (const Partial& warp : warps) running.merge(warp);
    rows[blockIdx.x] = running.logsumexp();
  }
}

__global__ void reduce_columns(Tile tile, float* columns) {
  const float scale = *tile.scale * kLog2E;
  const int64_t j = blockIdx.x * int64_t(kWarp) + threadIdx.x;
  Partial partial;
  if (j < tile.columns)
    for (int64_t i = threadIdx.y; i < tile.rows; i += kColumnWarps)
      partial.merge(of_logit(logit(tile.products[i * tile.columns + j], scale)));
  __shared__ Partial warps[kColumnWarps][kWarp];
  warps[threadIdx.y][threadIdx.x] = partial;
  __syncthreads();
  if (threadIdx.y == 0 && j < tile.columns) {
    Partial running = of_logit(columns[j] * kLog2E);
    for (int warp = 0; warp < kColumnWarps; ++warp) running.merge(warps[warp][threadIdx.x]);
    columns[j] = running.logsumexp();
  }
}

__device__ void assign(float* out, float value) { *out = value; }
__device__ void assign(__half* out, float value) { *out = __float2half_rn(value); }
__device__ void assign(__nv_bfloat16* out, float value) { *out = __float2bfloat16_rn(value); }

__device__ float weight(Side side, int64_t i, float logit) {
  if (side.logsumexp == nullptr) return 0;
  const float lse = side.logsumexp[i];
  if (lse == -INFINITY) return 0;  // everything excluded
  return side.gradient[i] * exp2f(logit - lse * kLog2E);
}

template <class T>
__global__ void weigh(Tile tile, Side row, Side column, T* out) {
  const float scale = *tile.scale * kLog2E;
  const int64_t j = blockIdx.x * int64_t(blockDim.x) + threadIdx.x;
  if (j >= tile.columns) return;
  for (int64_t i = blockIdx.y; i < tile.rows; i += gridDim.y) {
    const int64_t at = i * tile.columns + j;
    const float s = logit(tile.products[at], scale);
    assign(out + at, weight(row, i, s) + weight(column, j, s));
  }
}

}  // namespace

void pairwise_logsumexp_reduce(const Tile& tile, float* rows, float* columns, void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  reduce_rows<<<tile.rows, kRowThreads, 0, s>>>(tile, rows);
  check_launch();
  if (columns != nullptr) {
    const auto blocks = static_cast<unsigned>((tile.columns + kWarp - 1) / kWarp);
    reduce_columns<<<blocks, dim3(kWarp, kColumnWarps), 0, s>>>(tile, columns);
    check_launch();
  }
}

void pairwise_logsumexp_weigh(const Tile& tile, Side row, Side column, void* out, DType out_dtype,
                              void* stream) {
  const auto s = static_cast<cudaStream_t>(stream);
  const dim3 grid((tile.columns + 255) / 256, tile.rows < 512 ? tile.rows : 512);
  switch (out_dtype) {
    case DType::float32:
      weigh<<<grid, 256, 0, s>>>(tile, row, column, static_cast<float*>(out));
      break;
    case DType::bfloat16:
      weigh<<<grid, 256, 0, s>>>(tile, row, column, static_cast<__nv_bfloat16*>(out));
      break;
    case DType::float16:
      weigh<<<grid, 256, 0, s>>>(tile, row, column, static_cast<__half*>(out));
      break;
  }
  check_launch();
}

}  // namespace sslkernels::cuda
