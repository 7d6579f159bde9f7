// One-read passes over a tile of q kᵀ that a matrix product has just written to the L2 cache.
#include "device.cuh"
#include "sslkernels/cuda.h"

namespace sslkernels::cuda {
namespace {

constexpr int kRowThreads = 256;  // one block reduces one row
constexpr int kColumnWarps = 16;  // one block reduces 32 columns, a warp every 16th row

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

// NaN is kept in the total: fmaxf would drop it.
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
  Partial* warps = reinterpret_cast<Partial*>(block_memory());
  partial = reduce_warp(partial);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = partial;
  __syncthreads();
  if (threadIdx.x == 0) {
    Partial running = of_logit(rows[blockIdx.x] * kLog2E);
    for (int warp = 0; warp < kRowThreads / kWarp; ++warp) running.merge(warps[warp]);
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
  Partial* warps = reinterpret_cast<Partial*>(block_memory()) + threadIdx.x;
  warps[threadIdx.y * kWarp] = partial;
  __syncthreads();
  if (threadIdx.y == 0 && j < tile.columns) {
    Partial running = of_logit(columns[j] * kLog2E);
    for (int warp = 0; warp < kColumnWarps; ++warp) running.merge(warps[warp * kWarp]);
    columns[j] = running.logsumexp();
  }
}

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
    assign(out[at], weight(row, i, s) + weight(column, j, s));
  }
}

}  // namespace

void pairwise_logsumexp_reduce(const Tile& tile, float* rows, float* columns, void* stream) {
  launch(reduce_rows, dim3(static_cast<unsigned>(tile.rows)), dim3(kRowThreads),
         kRowThreads / kWarp * sizeof(Partial), 1, stream, tile, rows);
  if (columns != nullptr)
    launch(reduce_columns, dim3(static_cast<unsigned>((tile.columns + kWarp - 1) / kWarp)),
           dim3(kWarp, kColumnWarps), kColumnWarps * kWarp * sizeof(Partial), 1, stream, tile,
           columns);
}

void pairwise_logsumexp_weigh(const Tile& tile, Side row, Side column, void* out, DType out_dtype,
                              void* stream) {
  const dim3 grid(static_cast<unsigned>((tile.columns + 255) / 256),
                  static_cast<unsigned>(tile.rows < 512 ? tile.rows : 512));
  with_type(out_dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    launch(weigh<T>, grid, dim3(256), 0, 1, stream, tile, row, column, static_cast<T*>(out));
  });
}

}  // namespace sslkernels::cuda
