// Masses that the plan's rows give to prototypes, each logit read once: a cluster of blocks holds a
// row, each block some of its columns and the masses of all of its rows so far.
#include <algorithm>

#include "device.cuh"
#include "sslkernels/sinkhorn.h"

namespace sslkernels::cuda {
namespace {

constexpr int kMostVectors = 4;  // per thread

template <class T, int kVectors>
__global__ void __launch_bounds__(kThreads)
    masses(Rows x, int64_t group_stride, Rows center, const int64_t* count, int64_t rows,
           int64_t width, Factor scale, Rows out) {
  constexpr int kElements = kVectors * kVector;
  const int rank = Cluster::rank(), size = Cluster::size();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t cluster = blockIdx.x / size, clusters = gridDim.x / size, group = blockIdx.y;
  const int64_t first = rank * int64_t(kThreads) * kElements + threadIdx.x * kVector;
  const auto column = [&](int i) { return first + i * (kThreads * kVector); };

  float* centers = block_memory() + threadIdx.x;            // [element][thread]
  float* of_warps = block_memory() + kElements * kThreads;  // maxima, then sums
  float* of_block = of_warps + 2 * kWarps;  // maximum and sum; separate for alternate rows

  for (int i = 0; i < kVectors; ++i) {
    float values[kVector];
    load<float>(center, group, column(i), width, 0, values);
    for (int j = 0; j < kVector; ++j) centers[(i * kVector + j) * kThreads] = values[j];
  }
  x.data = x.at<T>(0) + group * group_stride;
  x.aligned &= group_stride * sizeof(T) % 16 == 0;
  if (count) rows = max(int64_t(0), min(rows, *count));
  float mass[kElements] = {};
  for (int64_t row = cluster; row < rows; row += clusters, of_block += 2) {
    if (of_block == of_warps + 2 * kWarps + 4) of_block -= 4;
    float values[kElements], best = kNothing, sum = 0;
    for (int i = 0; i < kVectors; ++i) {
      float* part = values + i * kVector;
      load<T>(x, row, column(i), width, -INFINITY, part);
      for (int j = 0; j < kVector; ++j)
        part[j] = scale * (part[j] - centers[(i * kVector + j) * kThreads]);
    }
    for (int j = 0; j < kElements; ++j) best = fmaxf(best, values[j]);
    best = warp_max(best);
    for (int j = 0; j < kElements; ++j) sum += values[j] = exponential(values[j] - best);
    sum = warp_sum(sum);
    if (lane == 0) of_warps[warp] = best, of_warps[kWarps + warp] = sum;
    __syncthreads();
    if (warp == 0) {
      const float theirs = lane < kWarps ? of_warps[lane] : kNothing;
      const float largest = warp_max(theirs);
      const float total =
          warp_sum(lane < kWarps ? of_warps[kWarps + lane] * exponential(theirs - largest) : 0);
      if (lane == 0) of_block[0] = largest, of_block[1] = total;
    }
    Cluster::meet();
    const float* theirs = Cluster::of(min(lane, size - 1), of_block);
    const float largest = warp_max(theirs[0]);
    const float total = warp_sum(lane < size ? theirs[1] * exponential(theirs[0] - largest) : 0);
    const float weight = exponential(best - largest) / total;
    for (int j = 0; j < kElements; ++j) mass[j] += weight * values[j];
  }
  for (int i = 0; i < kVectors; ++i)
    store<float>(out, cluster * gridDim.y + group, column(i), width, mass + i * kVector);
  Cluster::meet();  // no block may exit while its memory is read
}

// Blocks per cluster and vectors per thread that hold a row; no blocks if none do.
struct Shape {
  int cluster, vectors;
};

Shape shape_of(int64_t width) {
  const int64_t vector = int64_t(kThreads) * kVector;  // columns of one vector per thread
  for (int cluster = 1; cluster <= std::min(8, largest_cluster()); cluster *= 2)
    if (width <= cluster * vector) return {cluster, 1};
  for (int cluster : {8, 16, 1}) {
    if (cluster > largest_cluster() || (cluster == 1 && largest_cluster() > 1)) continue;
    for (int vectors = 2; vectors <= kMostVectors; vectors *= 2)
      if (width <= cluster * vectors * vector) return {cluster, vectors};
  }
  return {0, 0};
}

}  // namespace

int sinkhorn_cluster(int64_t width) { return shape_of(width).cluster; }

void sinkhorn_masses(const Sinkhorn& problem, const int64_t* count, int clusters, float* out,
                     void* stream) {
  const Matrix& x = problem.logits;
  const Shape shape = shape_of(x.cols);
  const auto run = [&](auto* type, auto vectors) {
    const size_t numbers = size_t(vectors) * kVector * kThreads + 2 * kWarps + 4;
    launch(masses<std::remove_pointer_t<decltype(type)>, vectors>,
           dim3(clusters * shape.cluster, static_cast<unsigned>(problem.groups)), dim3(kThreads),
           numbers * sizeof(float), shape.cluster, stream, Rows(x), problem.group_stride,
           Rows(problem.center, x.cols, DType::float32), count, x.rows, x.cols,
           Factor(problem.scale), Rows(out, x.cols, DType::float32));
  };
  with_type(x.dtype, [&](auto* type) {
    switch (shape.vectors) {
      case 1: return run(type, std::integral_constant<int, 1>{});
      case 2: return run(type, std::integral_constant<int, 2>{});
      case 4: return run(type, std::integral_constant<int, 4>{});
      default:
        throw std::invalid_argument("sinkhorn on CUDA: a row of " + std::to_string(x.cols) +
                                    " does not fit a cluster of this device");
    }
  });
}

}  // namespace sslkernels::cuda
