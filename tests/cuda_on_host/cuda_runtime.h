// Stands in for CUDA's headers, so that kernels of csrc/cuda run on the host, on one thread.
//
// The threads of a cluster are coroutines. A warp runs until it has to wait for others; which goes
// first is CUDA_ON_HOST_ORDER (1 or -1), so that a kernel that forgets to wait shows in its
// results. Blocks have memory of their own, NaN at first.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define __CUDA_ARCH__ 900
#define __host__
#define __device__
#define __global__
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::isnan;
using std::max;
using std::min;

typedef int cudaError_t;
typedef struct CUstream_st* cudaStream_t;
constexpr cudaError_t cudaSuccess = 0, cudaErrorInvalidValue = 1;
inline const char* cudaGetErrorString(cudaError_t) { return "invalid argument"; }

enum {
  cudaFuncAttributeMaxDynamicSharedMemorySize,
  cudaFuncAttributeNonPortableClusterSizeAllowed
};
enum cudaDeviceAttr {
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrMaxSharedMemoryPerBlockOptin
};
enum { cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
  int id;
  struct {
    dim3 clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

inline int setting(const char* name, int usual) {
  const char* text = std::getenv(name);
  return text ? std::atoi(text) : usual;
}
inline int block_bytes() { return setting("CUDA_ON_HOST_MEMORY", 227 * 1024); }
inline cudaError_t cudaFuncSetAttribute(const void*, int attribute, int value) {
  const bool memory = attribute == cudaFuncAttributeMaxDynamicSharedMemorySize;
  return memory && value > block_bytes() ? cudaErrorInvalidValue : cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const bool major = attribute == cudaDevAttrComputeCapabilityMajor;
  *value = major ? setting("CUDA_ON_HOST_MAJOR", 9) : block_bytes();
  return cudaSuccess;
}

namespace cuda_on_host {

constexpr size_t kStack = 1 << 16;

// Where some coroutines wait for each other.
struct Barrier {
  int size = 0, arrived = 0, round = 0;
};

struct Block {
  std::vector<float> memory;
  Barrier barrier;
  std::vector<Barrier> warps;
  std::vector<float> exchanged;
};

struct Thread {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStack]};
  dim3 thread, block;
  int rank, number;  // of the block in its cluster, of the thread in its block
  bool done = false;
};

struct Machine {
  std::vector<Block> blocks;
  Barrier cluster;
  std::vector<Thread> threads;
  ucontext_t scheduler;
  Thread* now = nullptr;
  std::function<void()> body;
  long steps = 0;  // that brought somebody on
};

inline Machine machine;

inline void wait(Barrier& barrier) {
  ++machine.steps;
  const int round = barrier.round;
  if (++barrier.arrived == barrier.size) {
    barrier.arrived = 0;
    ++barrier.round;
  }
  while (barrier.round == round) swapcontext(&machine.now->context, &machine.scheduler);
  ++machine.steps;
}

inline Block& block() { return machine.blocks[machine.now->rank]; }
inline float* block_memory() { return block().memory.data(); }

inline float shuffle(float x, int other) {
  Block& mine = block();
  const int number = machine.now->number, warp = number / 32;
  mine.exchanged[number] = x;
  wait(mine.warps[warp]);
  const float result = mine.exchanged[warp * 32 + other];
  wait(mine.warps[warp]);
  return result;
}

inline void enter() {
  machine.body();
  machine.now->done = true;
  ++machine.steps;
  swapcontext(&machine.now->context, &machine.scheduler);
}

// As far as it comes without other warps; whether it has not come to its end.
inline bool run_warp(int warp) {
  for (bool busy = true;;) {
    busy = false;
    const long before = machine.steps;
    for (int lane = 0; lane < 32; ++lane) {
      Thread& t = machine.threads[warp * 32 + lane];
      if (t.done) continue;
      machine.now = &t, threadIdx = t.thread, blockIdx = t.block;
      swapcontext(&machine.scheduler, &t.context);
      busy |= !t.done;
    }
    if (!busy || machine.steps == before) return busy;
  }
}

inline void run_cluster(dim3 first, int size, size_t memory) {
  const int count = blockDim.x * blockDim.y * blockDim.z;
  if (count % 32) throw std::runtime_error("blocks of whole warps only");
  machine.blocks.assign(size, Block{});
  for (Block& b : machine.blocks) {
    b.memory.assign(memory / sizeof(float), std::numeric_limits<float>::quiet_NaN());
    b.barrier.size = count;
    b.warps.assign(count / 32, Barrier{32});
    b.exchanged.resize(count);
  }
  machine.cluster = Barrier{size * count};
  machine.threads.resize(size * count);
  for (int i = 0; i < size * count; ++i) {
    Thread& t = machine.threads[i];
    t.rank = i / count, t.number = i % count, t.done = false;
    t.block = dim3(first.x + t.rank, first.y, first.z);
    t.thread = dim3(t.number % blockDim.x, t.number / blockDim.x % blockDim.y,
                    t.number / blockDim.x / blockDim.y);
    getcontext(&t.context);
    t.context.uc_stack.ss_sp = t.stack.get();
    t.context.uc_stack.ss_size = kStack;
    t.context.uc_link = nullptr;
    makecontext(&t.context, enter, 0);
  }
  const char* order = std::getenv("CUDA_ON_HOST_ORDER");
  const bool backwards = order && std::atoi(order) < 0;
  const int warps = size * count / 32;
  for (bool busy = true; busy;) {
    busy = false;
    const long before = machine.steps;
    for (int i = 0; i < warps; ++i) busy |= run_warp(backwards ? warps - 1 - i : i);
    if (busy && machine.steps == before)
      throw std::runtime_error("threads wait for others that do not come");
  }
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::wait(cuda_on_host::block().barrier); }
inline float __shfl_xor_sync(unsigned, float x, int lane) {
  return cuda_on_host::shuffle(x, (cuda_on_host::machine.now->number % 32) ^ lane);
}

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  auto& machine = cuda_on_host::machine;
  gridDim = config->gridDim, blockDim = config->blockDim;
  machine.body = [&] { kernel(arguments...); };
  const unsigned size = config->numAttrs ? config->attrs[0].val.clusterDim.x : 1;
  if (config->gridDim.x % size) return cudaErrorInvalidValue;
  for (unsigned z = 0; z < config->gridDim.z; ++z)
    for (unsigned y = 0; y < config->gridDim.y; ++y)
      for (unsigned x = 0; x < config->gridDim.x; x += size)
        cuda_on_host::run_cluster(dim3(x, y, z), size, config->dynamicSmemBytes);
  return cudaSuccess;
}
