// Cross-entropies between rows of teacher and student logits. The maths is in
// sslkernels/primitives/soft_cross_entropy/README.md.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels {

struct SoftCrossEntropy {
  std::vector<Matrix> student, teacher;  // S and T views, each (B, K), columns contiguous
  const float* center;                   // null: none
  int64_t center_view, center_step;      // its strides between teachers, and between `centers`
  int64_t centers;                       // row b uses b mod centers
  const float* pairs;                    // (S, T): weights of pairs
  double student_scale, teacher_scale;   // inverse temperatures
  bool probabilities;                    // the teacher's rows are probabilities
  int threads;                           // on the CPU
};

// The maximum of each row's scaled logits and the sum of e^(logit - maximum), (S, B) and (T, B).
// For probabilities, the teacher's maximum is 0, and its sum theirs. cost (S, T, B): the sum of the
// teacher's terms times the student's maximum minus its logit.
struct Statistics {
  float *student_max, *student_sum, *teacher_max, *teacher_sum, *cost;
};

namespace cpu {

// entropies: (S, B), of each student's row with the teachers, weighted. It and the cost may be
// null.
void soft_cross_entropy_forward(const SoftCrossEntropy& problem, const Statistics& out,
                                float* entropies);

// out: the gradient of each student, of its shape; it may be the student itself. row_grad: (S, B).
// The statistics contain no cost.
void soft_cross_entropy_backward(const SoftCrossEntropy& problem, const Statistics& statistics,
                                 const float* row_grad, const std::vector<Matrix>& out);

}  // namespace cpu

// The same, on `stream`: up to 4 teachers.
namespace cuda {

void soft_cross_entropy_forward(const SoftCrossEntropy& problem, const Statistics& out,
                                void* stream);
void soft_cross_entropy_backward(const SoftCrossEntropy& problem, const Statistics& statistics,
                                 const float* row_grad, const std::vector<Matrix>& out,
                                 void* stream);

}  // namespace cuda
}  // namespace sslkernels
