// Chooses, at run time, the widest instruction set that this processor and this build support.
#include "sslkernels/augment_views.h"
#include "sslkernels/contrastive.h"
#include "sslkernels/covariance_loss.h"
#include "sslkernels/cpu.h"
#include "sslkernels/nearest_neighbor.h"
#include "sslkernels/offdiagonal_norm.h"
#include "sslkernels/pairwise_logsumexp.h"
#include "sslkernels/pairwise_softplus.h"
#include "sslkernels/random_directions.h"
#include "sslkernels/sinkhorn.h"
#include "sslkernels/sliced_epps_pulley.h"
#include "sslkernels/sliced_wasserstein.h"
#include "sslkernels/soft_cross_entropy.h"

#define SSLKERNELS_DECLARE(isa)                                                              \
  namespace isa {                                                                            \
  double covariance_loss(const CovarianceLoss&, float*, float*);                             \
  double contrastive(const Contrastive&, const ContrastiveGradients&);                       \
  void pairwise_logsumexp_forward(const Pairwise&, float*, float*);                          \
  void pairwise_logsumexp_backward(const Pairwise&, Side, Side, float*, float*);             \
  void pairwise_softplus_forward(const Pairwise&, float*);                                   \
  void pairwise_softplus_backward(const Pairwise&, const float*, float*, float*, float*);    \
  void nearest_neighbor(const Neighbors&, float*, int64_t*);                                 \
  void standardized_product(const Columns&, const Columns&, bool, int, const Output&);       \
  void row_squares(const Columns&, int, double*);                                            \
  void scale_rows(const Columns&, const float*, int, float*);                                \
  void column_statistics(const Matrix&, int, double*, double*);                              \
  void pair_statistics(const ColumnStatistics&, const ColumnStatistics&, double*, int);      \
  void column_dot(const Columns&, const Columns&, int, double*);                             \
  void finish_columns(const Finish&, int);                                                   \
  void sliced_sums(const SlicedEppsPulley&, float*);                                         \
  void sliced_statistics(const SlicedStatistics&, float*, float*);                           \
  void sliced_gradient(const SlicedEppsPulley&, const float*, const float*, float*);         \
  void soft_cross_entropy_forward(const SoftCrossEntropy&, const Statistics&, float*);       \
  void soft_cross_entropy_backward(const SoftCrossEntropy&, const Statistics&, const float*, \
                                   const std::vector<Matrix>&);                              \
  void sinkhorn(const Sinkhorn&, int, float*);                                               \
  void sinkhorn_columns(const Sinkhorn&, LogSums);                                           \
  void sinkhorn_rows(const Sinkhorn&, LogSums);                                              \
  void sinkhorn_masses(const Sinkhorn&, LogSums, float*);                                    \
  void augment_views(const AugmentViews&);                                                   \
  void random_directions(const RandomDirections&, void*);                                    \
  double sliced_wasserstein(const SlicedWasserstein&, float*);                               \
  void philox(const uint32_t*, uint32_t*);                                                   \
  }

namespace sslkernels::cpu {

SSLKERNELS_DECLARE(baseline)
#ifdef SSLKERNELS_X86
SSLKERNELS_DECLARE(avx2)
SSLKERNELS_DECLARE(avx512)
#endif

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
#ifdef SSLKERNELS_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    names.push_back("avx512");
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("avx2");
#endif
  names.push_back("baseline");
  return names;
}

namespace {

enum class Isa { avx512, avx2, baseline };
Isa chosen = [] {
  const std::string best = instruction_sets().front();
  return best == "avx512" ? Isa::avx512 : best == "avx2" ? Isa::avx2 : Isa::baseline;
}();

}  // namespace

bool use_instruction_set(const std::string& name) {
  for (const std::string& usable : instruction_sets())
    if (usable == name) {
      chosen = name == "avx512" ? Isa::avx512 : name == "avx2" ? Isa::avx2 : Isa::baseline;
      return true;
    }
  return false;
}

#ifdef SSLKERNELS_X86
#define SSLKERNELS_DISPATCH(call)          \
  switch (chosen) {                        \
    case Isa::avx512: return avx512::call; \
    case Isa::avx2: return avx2::call;     \
    default: return baseline::call;        \
  }
#else
#define SSLKERNELS_DISPATCH(call) return baseline::call;
#endif

void pairwise_logsumexp_forward(const Pairwise& problem, float* rows, float* columns) {
  SSLKERNELS_DISPATCH(pairwise_logsumexp_forward(problem, rows, columns))
}

void pairwise_logsumexp_backward(const Pairwise& problem, Side row, Side column, float* dq,
                                 float* dk) {
  SSLKERNELS_DISPATCH(pairwise_logsumexp_backward(problem, row, column, dq, dk))
}

void pairwise_softplus_forward(const Pairwise& problem, float* rows) {
  SSLKERNELS_DISPATCH(pairwise_softplus_forward(problem, rows))
}

void pairwise_softplus_backward(const Pairwise& problem, const float* row_gradient, float* dq,
                                float* dk, float* row_sigma) {
  SSLKERNELS_DISPATCH(pairwise_softplus_backward(problem, row_gradient, dq, dk, row_sigma))
}

double contrastive(const Contrastive& problem, const ContrastiveGradients& gradients) {
  SSLKERNELS_DISPATCH(contrastive(problem, gradients))
}

double covariance_loss(const CovarianceLoss& problem, float* da, float* db) {
  SSLKERNELS_DISPATCH(covariance_loss(problem, da, db))
}

void nearest_neighbor(const Neighbors& problem, float* similarities, int64_t* indices) {
  SSLKERNELS_DISPATCH(nearest_neighbor(problem, similarities, indices))
}

void standardized_product(const Columns& x, const Columns& y, bool symmetric, int threads,
                          const Output& out) {
  SSLKERNELS_DISPATCH(standardized_product(x, y, symmetric, threads, out))
}

void row_squares(const Columns& x, int threads, double* out) {
  SSLKERNELS_DISPATCH(row_squares(x, threads, out))
}

void scale_rows(const Columns& x, const float* factors, int threads, float* out) {
  SSLKERNELS_DISPATCH(scale_rows(x, factors, threads, out))
}

void pair_statistics(const ColumnStatistics& a, const ColumnStatistics& b, double* products,
                     int threads) {
  SSLKERNELS_DISPATCH(pair_statistics(a, b, products, threads))
}

void column_statistics(const Matrix& x, int threads, double* mean, double* squares) {
  SSLKERNELS_DISPATCH(column_statistics(x, threads, mean, squares))
}

void column_dot(const Columns& a, const Columns& b, int threads, double* out) {
  SSLKERNELS_DISPATCH(column_dot(a, b, threads, out))
}

void finish_columns(const Finish& problem, int threads) {
  SSLKERNELS_DISPATCH(finish_columns(problem, threads))
}

void sliced_sums(const SlicedEppsPulley& problem, float* sums) {
  SSLKERNELS_DISPATCH(sliced_sums(problem, sums))
}

void sliced_statistics(const SlicedStatistics& problem, float* sums, float* statistics) {
  SSLKERNELS_DISPATCH(sliced_statistics(problem, sums, statistics))
}

void sliced_gradient(const SlicedEppsPulley& problem, const float* coefficients,
                     const float* gradients, float* dz) {
  SSLKERNELS_DISPATCH(sliced_gradient(problem, coefficients, gradients, dz))
}

void soft_cross_entropy_forward(const SoftCrossEntropy& problem, const Statistics& out,
                                float* entropies) {
  SSLKERNELS_DISPATCH(soft_cross_entropy_forward(problem, out, entropies))
}

void soft_cross_entropy_backward(const SoftCrossEntropy& problem, const Statistics& statistics,
                                 const float* row_grad, const std::vector<Matrix>& out) {
  SSLKERNELS_DISPATCH(soft_cross_entropy_backward(problem, statistics, row_grad, out))
}

void sinkhorn(const Sinkhorn& problem, int iterations, float* center) {
  SSLKERNELS_DISPATCH(sinkhorn(problem, iterations, center))
}

void sinkhorn_columns(const Sinkhorn& problem, LogSums out) {
  SSLKERNELS_DISPATCH(sinkhorn_columns(problem, out))
}

void sinkhorn_rows(const Sinkhorn& problem, LogSums out) {
  SSLKERNELS_DISPATCH(sinkhorn_rows(problem, out))
}

void sinkhorn_masses(const Sinkhorn& problem, LogSums rows, float* out) {
  SSLKERNELS_DISPATCH(sinkhorn_masses(problem, rows, out))
}

void augment_views(const AugmentViews& problem) { SSLKERNELS_DISPATCH(augment_views(problem)) }

void random_directions(const RandomDirections& problem, void* out) {
  SSLKERNELS_DISPATCH(random_directions(problem, out))
}

double sliced_wasserstein(const SlicedWasserstein& problem, float* dz) {
  SSLKERNELS_DISPATCH(sliced_wasserstein(problem, dz))
}

void philox(const uint32_t key[2], uint32_t counter[4]) {
  SSLKERNELS_DISPATCH(philox(key, counter))
}

}  // namespace sslkernels::cpu
