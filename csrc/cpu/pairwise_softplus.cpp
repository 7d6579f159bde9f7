// Compiled once per instruction set; dispatch.cpp chooses among them at run time.
#include "sslkernels/pairwise_softplus.h"

#include "strips.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {
namespace {

// Sums over the columns of each row; over a strip at a time if columns are split.
class RowSums {
 public:
  RowSums(const Strips& strips, int64_t rows)
      : rows_(rows),
        of_columns_(strips.of_columns()),
        sums_(of_columns_ ? rows * strips.count() : rows, 0.0) {}

  double* of(int strip, int64_t start) {
    return sums_.data() + (of_columns_ ? strip * rows_ : start);
  }

  void write(float* out) const {
    for (int64_t i = 0; i < rows_; ++i) {
      double sum = 0;
      for (size_t at = i; at < sums_.size(); at += rows_) sum += sums_[at];
      out[i] = static_cast<float>(sum);
    }
  }

 private:
  int64_t rows_;
  bool of_columns_;
  std::vector<double> sums_;
};

}  // namespace

void pairwise_softplus_forward(const Pairwise& problem, float* rows) {
  const Strips strips(problem);
  RowSums row_sums(strips, problem.q.rows);
  strips.for_each([&](const Pairwise& strip, int number, int64_t start) {
    double* sums = row_sums.of(number, start);
    TileWalk(strip, false).for_each_tile([&](Workspace& w, const Tile& tile) {
      for (int r = 0; r < tile.rows; ++r) {
        const float* logits = w.logits + r * kTile;
        Vec sum{};
        for (int c = 0; c < tile.columns; c += kLanes) sum += softplus(load(logits + c));
        sums[tile.row + r] += horizontal_sum(sum);
      }
    });
  });
  row_sums.write(rows);
}

void pairwise_softplus_backward(const Pairwise& problem, const float* row_gradient, float* dq,
                                float* dk, float* row_sigma) {
  const Strips strips(problem);
  RowSums row_sums(strips, problem.q.rows);
  const auto body = [&](const Pairwise& strip, int number, int64_t start, float* dq, float* dk) {
    double* sums = row_sums.of(number, start);
    const float* gradients = row_gradient + (strips.of_columns() ? 0 : start);
    TileWalk walk(strip, dq || dk);
    walk.for_each_tile([&](Workspace& w, const Tile& tile) {
      for (int r = 0; r < tile.rows; ++r) {
        float* logits = w.logits + r * kTile;
        const float gradient = gradients[tile.row + r];
        Vec sum{};
        for (int c = 0; c < tile.columns; c += kLanes) {
          const Vec sigma = sigmoid(load(logits + c));
          sum += sigma;
          store(logits + c, sigma * gradient);
        }
        sums[tile.row + r] += static_cast<double>(gradient) * horizontal_sum(sum);
      }
      walk.add_gradients(w, tile, dq, dk);
    });
  };
  strips.for_each(dq, dk, body);
  row_sums.write(row_sigma);
}

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
