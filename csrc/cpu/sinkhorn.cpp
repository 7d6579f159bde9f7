// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/sinkhorn.h"

#include <cmath>
#include <vector>

#include "arena.h"
#include "exceptions.h"
#include "row.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

constexpr int kBlockRows = 32;             // summed before adding to a larger sum
constexpr int64_t kBlockFloats = 1 << 17;  // in a block of rows: half of the L2 cache
constexpr int kUnroll = 4 * kLanes;

int64_t ceil_to(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// Some of the sums over a block of rows, each row a multiple of kUnroll long.
inline void add_rows(const float* values, int64_t stride, const float* weights, int64_t runs,
                     int rows, int count, float* sums) {
  for (int k = 0; k < count; k += kUnroll) {
    Vec sum[4];
    for (int v = 0; v < 4; ++v) sum[v] = load(sums + k + v * kLanes);
    for (int i = 0; i < rows; ++i)
      for (int v = 0; v < 4; ++v)
        sum[v] += load(values + i * stride + k + v * kLanes) * weights[i * runs];
    for (int v = 0; v < 4; ++v) store(sums + k + v * kLanes, sum[v]);
  }
}

// e^logit of a block of rows; a weight for each run of each row makes it the plan.
struct Block {
  int64_t stride, runs;
  Buffer values;
  std::vector<float> weights;
  std::vector<float> best, total;  // of each run of one row
  Block(int64_t rows, int64_t padded)
      : stride(padded + kLanes),  // not a power of two, so that rows do not share cache sets
        runs((padded + kRun - 1) / kRun),
        values(rows * stride),
        weights(rows * runs),
        best(runs),
        total(runs) {}
};

class Kernel {
 public:
  explicit Kernel(const Sinkhorn& problem)
      : p_(problem),
        rows_(problem.logits.rows),
        width_(problem.logits.cols),
        padded_(ceil_to(width_, kUnroll)),
        scale_(problem.scale),
        parts_(p_.groups >= p_.threads ? 1 : std::clamp<int64_t>(rows_, 1, p_.threads)) {}

  void columns(LogSums out) const {
    Buffer partial(p_.groups * parts_ * 2 * padded_);
    for_each_part([&](int64_t group, int64_t part, int64_t first, int64_t last) {
      float* maximum = partial + (group * parts_ + part) * 2 * padded_;
      columns_of(group, first, last, maximum, maximum + padded_);
    });
    for_each_vector([&](int64_t group, int64_t k) {
      Vec maximum = broadcast(kNothing), total{};
      for (int64_t part = 0; part < parts_; ++part) {
        const float* from = partial + (group * parts_ + part) * 2 * padded_ + k;
        merge(maximum, total, load(from), load(from + padded_));
      }
      write(maximum, group, k, out.maximum);
      write(total, group, k, out.total);
    });
  }

  void rows(LogSums out) const {
    std::vector<Block> blocks;
    for (int t = 0; t < p_.threads; ++t) blocks.emplace_back(1, padded_);
#pragma omp parallel for schedule(static) num_threads(p_.threads)
    for (int64_t at = 0; at < p_.groups * rows_; ++at) {
      const auto [maximum, total] = reduce(at / rows_, at % rows_, blocks[this_thread()], 0);
      out.maximum[at] = maximum;
      out.total[at] = static_cast<float>(total);
    }
  }

  void masses(LogSums known, float* out) const {
    Buffer partial(p_.groups * parts_ * padded_);
    for_each_part([&](int64_t group, int64_t part, int64_t first, int64_t last) {
      masses_of(group, first, last, known, partial + (group * parts_ + part) * padded_);
    });
    for_each_vector([&](int64_t group, int64_t k) {
      Vec total{};
      for (int64_t part = 0; part < parts_; ++part)
        total += load(partial + (group * parts_ + part) * padded_ + k);
      write(total, group, k, out);
    });
  }

 private:
  // Calls body(group, part, first row, last row), each in one thread.
  template <class Body>
  void for_each_part(const Body& body) const {
    Exceptions exceptions;
#pragma omp parallel for schedule(dynamic) num_threads(p_.threads)
    for (int64_t task = 0; task < p_.groups * parts_; ++task)
      exceptions.keep([&] {
        const int64_t part = task % parts_;
        body(task / parts_, part, rows_ * part / parts_, rows_ * (part + 1) / parts_);
      });
    exceptions.rethrow();
  }

  template <class Body>
  void for_each_vector(const Body& body) const {
    const int64_t vectors = ceil_to(width_, kLanes) / kLanes;
#pragma omp parallel for schedule(static) num_threads(p_.threads)
    for (int64_t at = 0; at < p_.groups * vectors; ++at) body(at / vectors, at % vectors * kLanes);
  }

  void write(Vec v, int64_t group, int64_t k, float* out) const {
    for (int lane = 0; lane < std::min<int64_t>(kLanes, width_ - k); ++lane)
      out[group * width_ + k + lane] = v[lane];
  }

  static void merge(Vec& maximum, Vec& total, Vec more_maximum, Vec more_total) {
    const Vec best = max(maximum, more_maximum);
    total = total * exp(maximum - best) + more_total * exp(more_maximum - best);
    maximum = best;
  }

  int run_at(int64_t k) const { return static_cast<int>(std::min<int64_t>(kRun, width_ - k)); }

  // A run of scaled logits; returns the largest.
  float read(int64_t group, int64_t row, int64_t k, float* out) const {
    const float* center = p_.center ? p_.center + group * width_ + k : nullptr;
    return read_run(p_.logits, row, group * p_.group_stride + k, run_at(k), center, scale_, out);
  }

  void columns_of(int64_t group, int64_t first, int64_t last, float* maximum, float* total) const {
    Buffer values(kRun), best(kRun), sum(kRun);
    std::fill_n(maximum, padded_, kNothing);
    for (int64_t start = first; start < last; start += kBlockRows) {
      const int64_t end = std::min<int64_t>(last, start + kBlockRows);
      for (int64_t k = 0; k < width_; k += kRun) {
        const int count = round_up(run_at(k), kLanes);
        std::fill_n(static_cast<float*>(best), count, kNothing);
        std::fill_n(static_cast<float*>(sum), count, 0.0f);
        for (int64_t row = start; row < end; ++row) {
          read(group, row, k, values);
          for (int i = 0; i < count; i += kLanes)
            store(best + i, max(load(best + i), load(values + i)));
        }
        for (int64_t row = start; row < end; ++row) {
          read(group, row, k, values);
          for (int i = 0; i < count; i += kLanes)
            store(sum + i, load(sum + i) + exp(load(values + i) - load(best + i)));
        }
        for (int i = 0; i < count; i += kLanes) {
          Vec known = load(maximum + k + i), known_sum = load(total + k + i);
          merge(known, known_sum, load(best + i), load(sum + i));
          store(maximum + k + i, known);
          store(total + k + i, known_sum);
        }
      }
    }
  }

  // Replaces a run of values by e^(values - shift); returns their sum.
  static float exponentials(float* values, int count, float shift) {
    Vec sum{};
    for (int i = 0; i < count; i += kLanes) {
      const Vec e = exp(load(values + i) - shift);
      store(values + i, e);
      sum += e;
    }
    return horizontal_sum(sum);
  }

  // Reads a row into the block: its maximum, and the sum of e^(logit - maximum).
  std::pair<float, double> reduce(int64_t group, int64_t row, Block& block, int at) const {
    float maximum = kNothing;
    for (int64_t k = 0; k < width_; k += kRun) {
      float* values = block.values + at * block.stride + k;
      const float best = read(group, row, k, values);
      block.total[k / kRun] = exponentials(values, run_at(k), best);
      block.best[k / kRun] = best;
      maximum = std::max(maximum, best);
    }
    double total = 0;
    for (int64_t run = 0; run < block.runs; ++run) {
      block.best[run] = std::exp(block.best[run] - maximum);
      total += double(block.total[run]) * block.best[run];
    }
    for (int64_t run = 0; run < block.runs; ++run)
      block.weights[at * block.runs + run] = static_cast<float>(block.best[run] / total);
    return {maximum, total};
  }

  // The same for a row whose maximum and sum are known.
  void weigh(int64_t group, int64_t row, LogSums known, Block& block, int at) const {
    const float maximum = known.maximum[group * rows_ + row];
    for (int64_t k = 0; k < width_; k += kRun) {
      float* values = block.values + at * block.stride + k;
      read(group, row, k, values);
      exponentials(values, run_at(k), maximum);
    }
    std::fill_n(&block.weights[at * block.runs], block.runs, 1 / known.total[group * rows_ + row]);
  }

  void masses_of(int64_t group, int64_t first, int64_t last, LogSums known, float* total) const {
    const int64_t most = std::clamp<int64_t>(kBlockFloats / padded_, 1, kBlockRows);
    Block block(most, padded_);
    Buffer sums(padded_);
    for (int64_t start = first, waiting = 0; start < last; start += most) {
      const int count = static_cast<int>(std::min(most, last - start));
      for (int i = 0; i < count; ++i) {
        if (known.maximum)
          weigh(group, start + i, known, block, i);
        else
          reduce(group, start + i, block, i);
      }
      for (int64_t k = 0; k < padded_; k += kRun)
        add_rows(block.values + k, block.stride, &block.weights[k / kRun], block.runs, count,
                 static_cast<int>(std::min<int64_t>(kRun, padded_ - k)), sums + k);
      waiting += count;
      if (waiting < kBlockRows && start + most < last) continue;
      for (int64_t k = 0; k < padded_; k += kLanes) {
        store(total + k, load(total + k) + load(sums + k));
        store(sums + k, Vec{});
      }
      waiting = 0;
    }
  }

  const Sinkhorn& p_;
  const int64_t rows_, width_, padded_;
  const Factor scale_;
  const int64_t parts_;  // of each group's rows
};

}  // namespace

void sinkhorn_columns(const Sinkhorn& problem, LogSums out) { Kernel(problem).columns(out); }

void sinkhorn(const Sinkhorn& problem, int iterations, float* center) {
  const int64_t width = problem.logits.cols, size = problem.groups * width;
  const double epsilon = 1 / problem.scale;
  std::vector<float> maximum(size), total(size);
  sinkhorn_columns(problem, {maximum.data(), total.data()});
  std::fill_n(center, size, 0.0f);
  Sinkhorn moved = problem;
  moved.center = center;
  std::vector<double> relative(problem.groups, 0.0);
  for (int iteration = 0; iteration < iterations; ++iteration) {
    if (iteration > 0) sinkhorn_masses(moved, {nullptr, nullptr}, total.data());
    for (int64_t group = 0; group < problem.groups; ++group) {
      double largest = kNothing;  // the reference of the next masses
      for (int64_t i = group * width; i < (group + 1) * width; ++i) {
        const double log_mass = (iteration > 0 ? 0.0 : maximum[i]) + std::log(total[i]);
        if (largest == largest && !(log_mass <= largest)) largest = log_mass;
        const double next = center[i] + epsilon * (log_mass - relative[group]);
        center[i] = next == -INFINITY ? 0.0f : static_cast<float>(next);
      }
      relative[group] = iteration > 0 ? largest : 0.0;
    }
  }
}

void sinkhorn_rows(const Sinkhorn& problem, LogSums out) { Kernel(problem).rows(out); }

void sinkhorn_masses(const Sinkhorn& problem, LogSums rows, float* out) {
  Kernel(problem).masses(rows, out);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
