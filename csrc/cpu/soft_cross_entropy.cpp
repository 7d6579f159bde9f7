// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/soft_cross_entropy.h"

#include <cmath>
#include <limits>

#include "arena.h"
#include "exceptions.h"
#include "row.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

constexpr int64_t kFewRows = 64;     // below, rows are split into parts
constexpr int64_t kPart = 4 * kRun;  // minimum
constexpr double kEmpty = -std::numeric_limits<double>::infinity();

// The statistics of a part of a row, for every view.
struct State {
  std::vector<double> student_max, student_sum, teacher_max, teacher_sum, cost;
  State(size_t students, size_t teachers)
      : student_max(students, kEmpty),
        student_sum(students, 0),
        teacher_max(teachers, kEmpty),
        teacher_sum(teachers, 0),
        cost(students * teachers, 0) {}

  // Merges the statistics of another part of the same row. All terms of a cost are ≥ 0.
  void merge(const State& more) {
    const size_t students = student_max.size(), teachers = teacher_max.size();
    std::vector<double> shift(students), more_shift(students);
    for (size_t s = 0; s < students; ++s) {
      const double best = std::max(student_max[s], more.student_max[s]);
      shift[s] = student_max[s] == kEmpty ? 0 : best - student_max[s];
      more_shift[s] = best - more.student_max[s];
      student_sum[s] =
          student_sum[s] * std::exp(-shift[s]) + more.student_sum[s] * std::exp(-more_shift[s]);
      student_max[s] = best;
    }
    for (size_t t = 0; t < teachers; ++t) {
      const double best = std::max(teacher_max[t], more.teacher_max[t]);
      const double kept = std::exp(teacher_max[t] - best),
                   added = std::exp(more.teacher_max[t] - best);
      for (size_t s = 0; s < students; ++s) {
        double& sum = cost[s * teachers + t];
        sum = kept * (sum + shift[s] * teacher_sum[t]) +
              added * (more.cost[s * teachers + t] + more_shift[s] * more.teacher_sum[t]);
      }
      teacher_sum[t] = kept * teacher_sum[t] + added * more.teacher_sum[t];
      teacher_max[t] = best;
    }
  }
};

inline int padded(int count) { return round_up(count, kLanes); }

// values = factor · e^(values - shift); returns their sum.
inline float exponentials(float* values, int count, float shift, float factor) {
  Vec sum{};
  for (int i = 0; i < padded(count); i += kLanes) {
    const Vec e = exp(load(values + i) - shift) * factor;
    store(values + i, e);
    sum += e;
  }
  return horizontal_sum(sum);
}

inline float sum(const float* values, int count) {
  Vec sum{};
  for (int i = 0; i < padded(count); i += kLanes) sum += load(values + i);
  return horizontal_sum(sum);
}

// The sum of e^(logits - maximum), and Σ weights · (maximum - logits) for kTeachers weights.
template <int kTeachers>
inline float sums(const float* logits, int count, float maximum, const float* const* weights,
                  double* costs) {
  Vec sum{}, cost[kTeachers + 1] = {};
  for (int i = 0; i < padded(count); i += kLanes) {
    const Vec below = maximum - load(logits + i);
    for (int t = 0; t < kTeachers; ++t) cost[t] += load(weights[t] + i) * below;
    sum += exp(-below);
  }
  for (int t = 0; t < kTeachers; ++t) costs[t] = horizontal_sum(cost[t]);
  return horizontal_sum(sum);
}

class Kernel {
 public:
  explicit Kernel(const SoftCrossEntropy& problem)
      : p_(problem),
        students_(problem.student.size()),
        teachers_(problem.teacher.size()),
        rows_(problem.student[0].rows),
        width_(problem.student[0].cols),
        student_scale_(problem.student_scale),
        teacher_scale_(problem.probabilities ? 1 : problem.teacher_scale) {
    // independent of the number of threads, so that results are too
    const int64_t most = (width_ + kPart - 1) / kPart;
    parts_ = std::clamp<int64_t>((kFewRows + rows_ - 1) / rows_, 1, most);
  }

  // entropies, (S, B), may be null, and the cost.
  void forward(const Statistics& out, float* entropies) {
    std::vector<State> states(rows_ * parts_, State(students_, teachers_));
    for_each_part([&](int64_t row, int64_t part, int64_t first, int64_t last, float* buffer) {
      State& state = states[row * parts_ + part];
      if (first < last) reduce(row, first, run_to(first, last), buffer, state);
      if (first + kRun >= last) return;
      State run(students_, teachers_);
      for (int64_t k = first + kRun; k < last; k += kRun) {
        reduce(row, k, run_to(k, last), buffer, run);
        state.merge(run);
      }
    });
    for (int64_t row = 0; row < rows_; ++row) {
      State& state = states[row * parts_];
      for (int64_t part = 1; part < parts_; ++part) state.merge(states[row * parts_ + part]);
      const auto write = [&](const std::vector<double>& from, float* to) {
        for (size_t i = 0; i < from.size(); ++i) to[i * rows_ + row] = static_cast<float>(from[i]);
      };
      write(state.student_max, out.student_max);
      write(state.student_sum, out.student_sum);
      write(state.teacher_max, out.teacher_max);
      write(state.teacher_sum, out.teacher_sum);
      if (out.cost) write(state.cost, out.cost);
      for (size_t s = 0; entropies && s < students_; ++s)
        entropies[s * rows_ + row] = static_cast<float>(entropy(state, s));
    }
  }

  void backward(const Statistics& known, const float* row_grad, const std::vector<Matrix>& out) {
    for_each_part([&](int64_t row, int64_t, int64_t first, int64_t last, float* buffer) {
      for (int64_t k = first; k < last; k += kRun)
        weigh(row, k, run_to(k, last), buffer, known, row_grad, out);
    });
  }

 private:
  template <class Body>
  void for_each_part(const Body& body) {
    const int64_t width = round_up_runs((width_ + parts_ - 1) / parts_);
    const size_t size = (teachers_ + 1) * kRun;
    Arena arena;
    float* buffers = arena.take(size * p_.threads);
    Exceptions exceptions;
#pragma omp parallel for schedule(dynamic) num_threads(p_.threads)
    for (int64_t task = 0; task < rows_ * parts_; ++task)
      exceptions.keep([&] {
        const int64_t part = task % parts_;
        body(task / parts_, part, std::min(width_, part * width),
             std::min(width_, (part + 1) * width), buffers + size * this_thread());
      });
    exceptions.rethrow();
  }

  static int run_to(int64_t k, int64_t last) {
    return static_cast<int>(std::min<int64_t>(kRun, last - k));
  }

  // For student s, with the teachers that have a weight.
  double entropy(const State& state, size_t s) const {
    const double logarithm = std::log(state.student_sum[s]);
    double out = 0;
    for (size_t t = 0; t < teachers_; ++t) {
      const double pair = p_.pairs[s * teachers_ + t], cost = state.cost[s * teachers_ + t];
      const double mass = state.teacher_sum[t];
      if (pair != 0)
        out += pair * (p_.probabilities ? mass * logarithm + cost : logarithm + cost / mass);
    }
    return out;
  }

  static int64_t round_up_runs(int64_t x) { return (x + kRun - 1) / kRun * kRun; }

  const float* center(int64_t row, size_t view, int64_t k) const {
    return p_.center ? p_.center + view * p_.center_view + row % p_.centers * p_.center_step + k
                     : nullptr;
  }

  // Teacher t's run, scaled; returns the maximum.
  float read_teacher(int64_t row, int64_t k, int count, size_t t, float* out) const {
    const float best =
        read_run(p_.teacher[t], row, k, count, center(row, t, k), teacher_scale_, out);
    if (!p_.probabilities) return best;
    std::fill_n(out + count, padded(count) - count, 0.0f);
    return 0;
  }

  void reduce(int64_t row, int64_t k, int count, float* buffer, State& run) const {
    float* logits = buffer + teachers_ * kRun;
    for (size_t t = 0; t < teachers_; ++t) {
      float* weights = buffer + t * kRun;
      const float best = read_teacher(row, k, count, t, weights);
      run.teacher_max[t] = best;
      run.teacher_sum[t] =
          p_.probabilities ? sum(weights, count) : exponentials(weights, count, best, 1.0f);
    }
    for (size_t s = 0; s < students_; ++s) {
      const float best = read_run(p_.student[s], row, k, count, nullptr, student_scale_, logits);
      run.student_max[s] = best;
      double* costs = run.cost.data() + s * teachers_;
      for (size_t t = 0; t < teachers_; t += 2) {
        const float* weights[] = {buffer + t * kRun, buffer + (t + 1) * kRun};
        if (t + 1 < teachers_)
          run.student_sum[s] = sums<2>(logits, count, best, weights, costs + t);
        else
          run.student_sum[s] = sums<1>(logits, count, best, weights, costs + t);
      }
    }
  }

  // The gradient of every student's run.
  void weigh(int64_t row, int64_t k, int count, float* buffer, const Statistics& known,
             const float* row_grad, const std::vector<Matrix>& out) const {
    float* logits = buffer + teachers_ * kRun;
    for (size_t t = 0; t < teachers_; ++t) {
      const int64_t at = t * rows_ + row;
      read_teacher(row, k, count, t, buffer + t * kRun);
      if (!p_.probabilities)
        exponentials(buffer + t * kRun, count, known.teacher_max[at], 1 / known.teacher_sum[at]);
    }
    for (size_t s = 0; s < students_; ++s) {
      const int64_t at = s * rows_ + row;
      const float gradient = static_cast<float>(row_grad[at] * p_.student_scale);
      double mass = 0;
      for (size_t t = 0; t < teachers_; ++t)
        if (const float pair = p_.pairs[s * teachers_ + t]; pair != 0)
          mass += double(pair) * (p_.probabilities ? known.teacher_sum[t * rows_ + row] : 1.0f);
      read_run(p_.student[s], row, k, count, nullptr, student_scale_, logits);
      exponentials(logits, count, known.student_max[at],
                   static_cast<float>(gradient * mass / known.student_sum[at]));
      for (size_t t = 0; t < teachers_; ++t) {
        const float weight = gradient * p_.pairs[s * teachers_ + t];
        if (p_.pairs[s * teachers_ + t] == 0) continue;
        for (int i = 0; i < padded(count); i += kLanes)
          store(logits + i, load(logits + i) - load(buffer + t * kRun + i) * weight);
      }
      write_run(out[s], row, k, count, logits);
    }
  }

  const SoftCrossEntropy& p_;
  const size_t students_, teachers_;
  const int64_t rows_, width_;
  const Factor student_scale_, teacher_scale_;
  int64_t parts_;
};

}  // namespace

void soft_cross_entropy_forward(const SoftCrossEntropy& problem, const Statistics& out,
                                float* entropies) {
  Kernel(problem).forward(out, entropies);
}

void soft_cross_entropy_backward(const SoftCrossEntropy& problem, const Statistics& statistics,
                                 const float* row_grad, const std::vector<Matrix>& out) {
  Kernel(problem).backward(statistics, row_grad, out);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
