// Forward: a cluster of blocks processes a row of every view, and each block chunks of its columns.
// The teachers' exponentials stay in the block's shared memory while the students' logits are
// streamed, so every logit is read once; the warps' results are merged across the cluster.
#include <algorithm>

#include "device.cuh"
#include "sslkernels/soft_cross_entropy.h"

namespace sslkernels::cuda {
namespace {

constexpr int kMostStudents = 64;  // per launch
constexpr int kMostTeachers = 4;

// Elements of every view per thread at a time, and columns per block.
template <int kTeachers>
constexpr int kElements = kTeachers > 2 ? kVector : 2 * kVector;
template <int kTeachers>
constexpr int kChunk = kElements<kTeachers> * kThreads;

struct Problem {
  Rows student[kMostStudents], out[kMostStudents], teacher[kMostTeachers], center[kMostTeachers];
  int students, teachers;
  int64_t rows, width, centers;
  const float* pairs;
  Factor student_scale, teacher_scale;
  bool probabilities;
};

// A vector of teacher t's logits, centred and scaled, -inf outside; or of its probabilities.
__device__ void read_teacher(const Problem& p, int t, int64_t row, int64_t column, float* out) {
  const float outside = p.probabilities ? 0 : -INFINITY;
  load(p.teacher[t], row, column, p.width, outside, out);
  if (p.probabilities) return;
  float center[kVector] = {};
  if (p.center[t].data) load<float>(p.center[t], row % p.centers, column, p.width, 0, center);
  for (int i = 0; i < kVector; ++i) out[i] = p.teacher_scale * (out[i] - center[i]);
}

// A vector of student s's logits, scaled; outside the row so low that its exponential is 0.
template <class T>
__device__ void read_student(const Problem& p, int s, int64_t row, int64_t column, float* out) {
  load<T>(p.student[s], row, column, p.width, 0, out);
  for (int i = 0; i < kVector; ++i)
    out[i] = column + i < p.width ? p.student_scale * out[i] : kNothing;
}

// The warps' results: (2 S + 2 T + S T) numbers for every slot, one slot per turn of a warp.
struct Slots {
  float* memory;
  int students, teachers, count;
  __device__ float* student_max(int s) const { return memory + s * count; }
  __device__ float* student_sum(int s) const { return memory + (students + s) * count; }
  __device__ float* teacher_max(int t) const { return memory + (2 * students + t) * count; }
  __device__ float* teacher_sum(int t) const {
    return memory + (2 * students + teachers + t) * count;
  }
  __device__ float* cost(int s, int t) const {
    return memory + (2 * students + 2 * teachers + s * teachers + t) * count;
  }
  static int numbers(int students, int teachers) {
    return 2 * students + 2 * teachers + students * teachers;
  }
};

// Student s's statistics of a row, and the teachers', from all slots of all blocks.
__device__ void join(const Problem& p, const Slots& slots, int s, int64_t row, Statistics out) {
  const int lane = threadIdx.x % kWarp, all = Cluster::size() * slots.count;
  const auto at = [&](float* numbers, int i) {
    return Cluster::of(i / slots.count, numbers)[i % slots.count];
  };
  const auto largest = [&](float* numbers) {
    float best = kNothing;
    for (int i = lane; i < all; i += kWarp) best = fmaxf(best, at(numbers, i));
    return warp_max(best);
  };
  const float student_max = largest(slots.student_max(s));
  float sum = 0;
  for (int i = lane; i < all; i += kWarp)
    sum += at(slots.student_sum(s), i) * exponential(at(slots.student_max(s), i) - student_max);
  sum = warp_sum(sum);
  if (lane == 0) {
    out.student_max[s * p.rows + row] = student_max;
    out.student_sum[s * p.rows + row] = sum;
  }
  for (int t = 0; t < p.teachers; ++t) {
    const float teacher_max = largest(slots.teacher_max(t));
    float total = 0, cost = 0;
    for (int i = lane; i < all; i += kWarp) {
      const float kept = exponential(at(slots.teacher_max(t), i) - teacher_max);
      const float mass = at(slots.teacher_sum(t), i);
      const float shift = student_max - at(slots.student_max(s), i);
      total += kept * mass;
      cost += kept * (at(slots.cost(s, t), i) + shift * mass);
    }
    total = warp_sum(total), cost = warp_sum(cost);
    if (lane == 0) {
      out.cost[(int64_t(s) * p.teachers + t) * p.rows + row] = cost;
      if (s == 0) {
        out.teacher_max[t * p.rows + row] = p.probabilities ? 0 : teacher_max;
        out.teacher_sum[t * p.rows + row] = total;
      }
    }
  }
}

template <class T, int kTeachers>
__global__ void __launch_bounds__(kThreads)
    forward(const __grid_constant__ Problem p, int turns, Statistics out) {
  const int rank = Cluster::rank(), size = Cluster::size();
  const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const int64_t row = blockIdx.x / size;
  constexpr int kCount = kElements<kTeachers>;
  float* weights = block_memory() + threadIdx.x;  // [teacher][element][thread]
  const Slots slots{block_memory() + kTeachers * kChunk<kTeachers>, p.students, p.teachers,
                    turns * kWarps};
  for (int turn = 0; turn < turns; ++turn) {
    const auto column = [&](int i) {
      return int64_t(turn * size + rank) * kChunk<kTeachers> +
             (i / kVector * kThreads + threadIdx.x) * kVector;
    };
    const int slot = turn * kWarps + warp;
    float logits[kCount];
    for (int t = 0; t < p.teachers; ++t) {
      float best = kNothing, sum = 0;
      for (int i = 0; i < kCount; i += kVector) read_teacher(p, t, row, column(i), logits + i);
      for (int i = 0; i < kCount; ++i) best = fmaxf(best, logits[i]);
      best = p.probabilities ? 0 : warp_max(best);
      for (int i = 0; i < kCount; ++i) {
        const float weight = p.probabilities ? logits[i] : exponential(logits[i] - best);
        weights[(t * kCount + i) * kThreads] = weight;
        sum += weight;
      }
      sum = warp_sum(sum);
      if (lane == 0) slots.teacher_max(t)[slot] = best, slots.teacher_sum(t)[slot] = sum;
    }
    for (int s = 0; s < p.students; ++s) {
      float best = kNothing, sum = 0, cost[kTeachers] = {};
      for (int i = 0; i < kCount; i += kVector) read_student<T>(p, s, row, column(i), logits + i);
      for (int i = 0; i < kCount; ++i) best = fmaxf(best, logits[i]);
      best = warp_max(best);
      for (int i = 0; i < kCount; ++i) {
        const float below = best - logits[i];
        sum += exponential(-below);
        for (int t = 0; t < kTeachers; ++t)
          if (t < p.teachers) cost[t] += weights[(t * kCount + i) * kThreads] * below;
      }
      sum = warp_sum(sum);
      if (lane == 0) slots.student_max(s)[slot] = best, slots.student_sum(s)[slot] = sum;
      for (int t = 0; t < kTeachers; ++t) {
        const float total = warp_sum(cost[t]);
        if (lane == 0 && t < p.teachers) slots.cost(s, t)[slot] = total;
      }
    }
  }
  Cluster::meet();
  for (int s = rank * kWarps + warp; s < p.students; s += size * kWarps)
    join(p, slots, s, row, out);
  Cluster::meet();  // no block may exit while its memory is read
}

// Each thread processes one vector of columns, of all views.
template <class T, int kTeachers>
__global__ void __launch_bounds__(kThreads)
    backward(const __grid_constant__ Problem p, Statistics known, const float* row_grad) {
  const int64_t row = blockIdx.y + int64_t(blockIdx.z) * gridDim.y;
  const int64_t column = (int64_t(blockIdx.x) * kThreads + threadIdx.x) * kVector;
  if (row >= p.rows || column >= p.width) return;
  float target[kTeachers][kVector], mass[kTeachers];
#pragma unroll
  for (int t = 0; t < kTeachers; ++t) {
    const int teacher = min(t, p.teachers - 1);
    const float sum = known.teacher_sum[teacher * p.rows + row];
    read_teacher(p, teacher, row, column, target[t]);
    mass[t] = p.probabilities ? sum : 1;
    if (!p.probabilities) {
      const float maximum = known.teacher_max[teacher * p.rows + row], inverse = 1 / sum;
      for (int i = 0; i < kVector; ++i)
        target[t][i] = exponential(target[t][i] - maximum) * inverse;
    }
  }
  for (int s = 0; s < p.students; ++s) {
    const int64_t at = s * p.rows + row;
    const float gradient = row_grad[at] * p.student_scale.high, maximum = known.student_max[at];
    float total = 0, wanted[kVector] = {}, logits[kVector];
#pragma unroll
    for (int t = 0; t < kTeachers; ++t) {
      const float pair = t < p.teachers ? p.pairs[s * p.teachers + t] : 0;
      if (pair != 0) {  // pairs with weight 0 may be NaN
        total += pair * mass[t];
        for (int i = 0; i < kVector; ++i) wanted[i] += pair * target[t][i];
      }
    }
    total /= known.student_sum[at];
    read_student<T>(p, s, row, column, logits);
    for (int i = 0; i < kVector; ++i)
      logits[i] = gradient * (exponential(logits[i] - maximum) * total - wanted[i]);
    store(p.out[s], row, column, p.width, logits);
  }
}

// The problem with some of the students.
Problem part(const SoftCrossEntropy& whole, size_t first, const std::vector<Matrix>* out) {
  Problem p{{},
            {},
            {},
            {},
            static_cast<int>(std::min<size_t>(kMostStudents, whole.student.size() - first)),
            static_cast<int>(whole.teacher.size()),
            whole.student[0].rows,
            whole.student[0].cols,
            whole.centers,
            whole.pairs + first * whole.teacher.size(),
            Factor(whole.student_scale),
            Factor(whole.probabilities ? 1 : whole.teacher_scale),
            whole.probabilities};
  if (p.teachers > kMostTeachers)
    throw std::invalid_argument("soft_cross_entropy on CUDA takes up to 4 teachers, got " +
                                std::to_string(p.teachers));
  for (int s = 0; s < p.students; ++s) {
    p.student[s] = Rows(whole.student[first + s]);
    if (out) p.out[s] = Rows((*out)[first + s]);
  }
  for (int t = 0; t < p.teachers; ++t) {
    p.teacher[t] = Rows(whole.teacher[t]);
    if (whole.center)
      p.center[t] = Rows(whole.center + t * whole.center_view, whole.center_step, DType::float32);
  }
  return p;
}

// Calls body with the students' type and an upper bound of the number of teachers.
template <class Body>
void specialize(const Problem& p, const Body& body) {
  with_type(p.student[0].dtype, [&](auto* type) {
    if (p.teachers == 1)
      body(type, std::integral_constant<int, 1>{});
    else if (p.teachers == 2)
      body(type, std::integral_constant<int, 2>{});
    else
      body(type, std::integral_constant<int, kMostTeachers>{});
  });
}

// The results of the students from `first` on.
Statistics from(const Statistics& all, const SoftCrossEntropy& whole, size_t first) {
  const int64_t rows = whole.student[0].rows, at = first * rows;
  return {all.student_max + at, all.student_sum + at, all.teacher_max, all.teacher_sum,
          all.cost ? all.cost + at * static_cast<int64_t>(whole.teacher.size()) : nullptr};
}

}  // namespace

void soft_cross_entropy_forward(const SoftCrossEntropy& whole, const Statistics& out,
                                void* stream) {
  for (size_t first = 0; first < whole.student.size();) {
    Problem p = part(whole, first, nullptr);
    specialize(p, [&](auto* type, auto teachers) {
      constexpr int chunk = kChunk<teachers>;
      const int64_t chunks = (p.width + chunk - 1) / chunk;
      int cluster = 1;
      while (cluster < chunks && 2 * cluster <= std::min(8, largest_cluster())) cluster *= 2;
      const int turns = static_cast<int>((chunks + cluster - 1) / cluster);
      const auto memory = [&] {
        const size_t found = size_t(Slots::numbers(p.students, p.teachers)) * turns * kWarps;
        return (size_t(teachers) * chunk + found) * sizeof(float);
      };
      while (p.students > 1 && memory() > largest_memory()) p.students = (p.students + 1) / 2;
      if (memory() > largest_memory())
        throw std::invalid_argument("impl='cuda' keeps statistics of a row in a block's memory; " +
                                    std::to_string(p.width) +
                                    " prototypes are too many for this device; use impl='triton'");
      launch(forward<std::remove_pointer_t<decltype(type)>, teachers>,
             dim3(static_cast<unsigned>(p.rows * cluster)), dim3(kThreads), memory(), cluster,
             stream, p, turns, from(out, whole, first));
    });
    first += p.students;
  }
}

void soft_cross_entropy_backward(const SoftCrossEntropy& whole, const Statistics& statistics,
                                 const float* row_grad, const std::vector<Matrix>& out,
                                 void* stream) {
  constexpr int64_t kMostRows = 65535;  // limit of a grid's second dimension
  for (size_t first = 0; first < whole.student.size(); first += kMostStudents) {
    const Problem p = part(whole, first, &out);
    const int64_t columns = kThreads * kVector, rows = std::min(p.rows, kMostRows);
    const dim3 grid(static_cast<unsigned>((p.width + columns - 1) / columns),
                    static_cast<unsigned>(rows), static_cast<unsigned>((p.rows + rows - 1) / rows));
    specialize(p, [&](auto* type, auto teachers) {
      launch(backward<std::remove_pointer_t<decltype(type)>, teachers>, grid, dim3(kThreads), 0, 1,
             stream, p, from(statistics, whole, first), row_grad + first * p.rows);
    });
  }
}

}  // namespace sslkernels::cuda
