// Shared by the CUDA kernels: launches, clusters, loads and stores.
#pragma once

#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "sslkernels/tensor.h"

#ifndef SSLKERNELS_CUDA_THREADS
#define SSLKERNELS_CUDA_THREADS 512
#endif

namespace sslkernels::cuda {

constexpr int kWarp = 32;
constexpr int kThreads = SSLKERNELS_CUDA_THREADS;  // per block, unless a kernel sets another number
constexpr int kWarps = kThreads / kWarp;
constexpr int kVector = 8;  // elements per thread at once
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr float kNothing = -1e30f;  // maximum of an empty set: e^(-inf - kNothing) is 0, not NaN
constexpr float kLowest = -3.4028234663852886e38f;

inline void check(cudaError_t error) {
  if (error != cudaSuccess)
    throw std::runtime_error(std::string("sslkernels on CUDA: ") + cudaGetErrorString(error));
}

// Runs kernel(arguments...) on blocks; groups of `cluster` along x can access each other's shared
// memory.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t memory, int cluster,
            void* stream, Arguments... arguments) {
  const void* function = reinterpret_cast<const void*>(kernel);
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(memory)));
  if (cluster > 8)
    check(cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim.x = cluster;
  attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = memory;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = &attribute;
  config.numAttrs = cluster > 1 ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

inline int attribute(cudaDeviceAttr name) {
  int device, value;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&value, name, device));
  return value;
}

// The largest cluster that the current device launches: 1 before sm_90.
inline int largest_cluster() {
  const int major = attribute(cudaDevAttrComputeCapabilityMajor);
  return major < 9 ? 1 : major < 12 ? 16 : 8;
}

// The maximum shared memory of a block on the current device, in bytes.
inline size_t largest_memory() {
  return static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

// This block's dynamic shared memory.
__device__ inline float* block_memory() {
#ifdef SSLKERNELS_CUDA_ON_HOST
  return cuda_on_host::block_memory();
#else
  extern __shared__ float memory[];
  return memory;
#endif
}

// The cluster of this block: the block alone before sm_90.
struct Cluster {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  __device__ static int size() { return cooperative_groups::this_cluster().num_blocks(); }
  __device__ static int rank() { return cooperative_groups::this_cluster().block_rank(); }
  __device__ static void meet() { cooperative_groups::this_cluster().sync(); }
  // The value at this address in the shared memory of another block.
  __device__ static const float* of(int rank, float* address) {
    return cooperative_groups::this_cluster().map_shared_rank(address, rank);
  }
#else
  __device__ static int size() { return 1; }
  __device__ static int rank() { return 0; }
  __device__ static void meet() { __syncthreads(); }
  __device__ static const float* of(int, float* address) { return address; }
#endif
};

__device__ inline float exponential(float x) { return exp2f(x * kLog2E); }

__device__ inline float warp_sum(float x) {
  for (int lane = kWarp / 2; lane > 0; lane /= 2) x += __shfl_xor_sync(~0u, x, lane);
  return x;
}

// Ignores NaN, which the sums that follow propagate; at least kNothing.
__device__ inline float warp_max(float x) {
  for (int lane = kWarp / 2; lane > 0; lane /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, lane));
  return fmaxf(x, kNothing);
}

// A factor in two floats, so that a product rounds once.
struct Factor {
  float high, low;
  explicit Factor(double factor)
      : high(static_cast<float>(factor)), low(static_cast<float>(factor - high)) {}
  __device__ float operator*(float x) const {
    x = x < kLowest ? kLowest : x;  // for -inf the parts may be NaN
    return fmaf(x, high, x * low);
  }
};

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__half x) { return __half2float(x); }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void assign(float& out, float x) { out = x; }
__device__ inline void assign(__half& out, float x) { out = __float2half_rn(x); }
__device__ inline void assign(__nv_bfloat16& out, float x) { out = __float2bfloat16_rn(x); }

template <class T>
struct alignas(16) Vector {
  T x[kVector];
};

// A row of a matrix, or of a broadcast vector; columns from `width` on do not exist.
struct Rows {
  const void* data = nullptr;
  int64_t row_stride = 0;  // in elements
  DType dtype = DType::float32;
  bool aligned = false;  // every row is aligned to 16 bytes

  Rows() = default;
  Rows(const void* data, int64_t row_stride, DType dtype)
      : data(data), row_stride(row_stride), dtype(dtype) {
    const auto stride = static_cast<uintptr_t>(row_stride * item_size(dtype));
    aligned = (reinterpret_cast<uintptr_t>(data) | stride) % 16 == 0;
  }
  explicit Rows(const Matrix& x) : Rows(x.data, x.row_stride, x.dtype) {}

  template <class T>
  __device__ const T* at(int64_t row) const {
    return static_cast<const T*>(data) + row * row_stride;
  }
};

// out[i] = element column + i of the row; `outside` past its end.
template <class T>
__device__ inline void load(const Rows& x, int64_t row, int64_t column, int64_t width,
                            float outside, float* out) {
  const T* data = x.at<T>(row) + column;
  if (x.aligned && column + kVector <= width) {
    const Vector<T> vector = *reinterpret_cast<const Vector<T>*>(data);
    for (int i = 0; i < kVector; ++i) out[i] = to_float(vector.x[i]);
  } else {
    for (int i = 0; i < kVector; ++i) out[i] = column + i < width ? to_float(data[i]) : outside;
  }
}

template <class T>
__device__ inline void store(const Rows& x, int64_t row, int64_t column, int64_t width,
                             const float* values) {
  T* data = const_cast<T*>(x.at<T>(row)) + column;
  if (x.aligned && column + kVector <= width) {
    Vector<T> vector;
    for (int i = 0; i < kVector; ++i) assign(vector.x[i], values[i]);
    *reinterpret_cast<Vector<T>*>(data) = vector;
  } else {
    for (int i = 0; i < kVector; ++i)
      if (column + i < width) assign(data[i], values[i]);
  }
}

// The same for rows whose type is known at run time.
__device__ inline void load(const Rows& x, int64_t row, int64_t column, int64_t width,
                            float outside, float* out) {
  switch (x.dtype) {
    case DType::float32: return load<float>(x, row, column, width, outside, out);
    case DType::bfloat16: return load<__nv_bfloat16>(x, row, column, width, outside, out);
    case DType::float16: return load<__half>(x, row, column, width, outside, out);
  }
}
__device__ inline void store(const Rows& x, int64_t row, int64_t column, int64_t width,
                             const float* values) {
  switch (x.dtype) {
    case DType::float32: return store<float>(x, row, column, width, values);
    case DType::bfloat16: return store<__nv_bfloat16>(x, row, column, width, values);
    case DType::float16: return store<__half>(x, row, column, width, values);
  }
}

// Calls body with a null pointer to the type of the elements.
template <class Body>
void with_type(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float32: return body(static_cast<float*>(nullptr));
    case DType::bfloat16: return body(static_cast<__nv_bfloat16*>(nullptr));
    case DType::float16: return body(static_cast<__half*>(nullptr));
  }
}

}  // namespace sslkernels::cuda
