// The only file that uses pybind11. Tensors arrive as addresses, checked by the caller.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>
#include <tuple>

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
#ifdef SSLKERNELS_CUDA
#include "sslkernels/cuda.h"
#endif

namespace py = pybind11;
using namespace sslkernels;

namespace {

// (address, dtype, rows, columns, row stride, column stride)
using MatrixTuple = std::tuple<uintptr_t, int, int64_t, int64_t, int64_t, int64_t>;

constexpr int64_t kMost = INT32_MAX - (1 << 16);  // columns, counted in 32 bits

void check_columns(int64_t count) {
  if (count <= kMost) return;
  throw std::invalid_argument("the C++ kernels take at most " + std::to_string(kMost) +
                              " columns, got " + std::to_string(count) + "; use impl='tiled'");
}

Matrix matrix(const MatrixTuple& t) {
  const auto& [address, dtype, rows, cols, row_stride, col_stride] = t;
  check_columns(cols);
  return {reinterpret_cast<const void*>(address),
          static_cast<DType>(dtype),
          rows,
          cols,
          row_stride,
          col_stride};
}

float* pointer(uintptr_t address) { return reinterpret_cast<float*>(address); }
double* double_pointer(uintptr_t address) { return reinterpret_cast<double*>(address); }

// (matrix, addresses of the means, of their rounding errors, of the scales; whether features are
// rows)
using ColumnsTuple = std::tuple<MatrixTuple, uintptr_t, uintptr_t, uintptr_t, bool>;

cpu::Columns columns(const ColumnsTuple& t) {
  const auto& [x, mean, rest, scale, transposed] = t;
  if (transposed) check_columns(std::get<2>(x));
  return {matrix(x), pointer(mean), pointer(rest), pointer(scale), transposed};
}

cpu::Pairwise pairwise(const MatrixTuple& q, const MatrixTuple& k, double scale,
                       const std::vector<int64_t>& exclude, bool symmetric, int threads,
                       double bias = 0) {
  return {matrix(q), matrix(k), scale, exclude, symmetric, threads, bias};
}

std::vector<Matrix> matrices(const std::vector<MatrixTuple>& tuples) {
  std::vector<Matrix> out;
  for (const MatrixTuple& t : tuples) out.push_back(matrix(t));
  return out;
}

// (address, stride between views, stride between the centres of rows, their number)
using CenterTuple = std::tuple<uintptr_t, int64_t, int64_t, int64_t>;
// addresses of (S, B), (S, B), (T, B), (T, B), (S, T, B)
using StatisticsTuple = std::tuple<uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t>;

// address of (S, T), or 0: the weight of every pair, and whether pairs of one index count
using PairsTuple = std::tuple<uintptr_t, float, bool>;

// rule: memory for pairs without an address.
SoftCrossEntropy soft_cross_entropy(const std::vector<MatrixTuple>& student,
                                    const std::vector<MatrixTuple>& teacher,
                                    const CenterTuple& center, const PairsTuple& pairs,
                                    double student_scale, double teacher_scale, bool probabilities,
                                    int threads, std::vector<float>& rule) {
  const auto& [center_address, view, step, count] = center;
  const auto& [pairs_address, weight, same] = pairs;
  if (!pairs_address) {
    rule.assign(student.size() * teacher.size(), weight);
    for (size_t i = 0; !same && i < std::min(student.size(), teacher.size()); ++i)
      rule[i * (teacher.size() + 1)] = 0;
  }
  return {matrices(student),
          matrices(teacher),
          pointer(center_address),
          view,
          step,
          count,
          pairs_address ? pointer(pairs_address) : rule.data(),
          student_scale,
          teacher_scale,
          probabilities,
          threads};
}

Statistics statistics(const StatisticsTuple& t) {
  const auto& [student_max, student_sum, teacher_max, teacher_sum, cost] = t;
  return {pointer(student_max), pointer(student_sum), pointer(teacher_max), pointer(teacher_sum),
          pointer(cost)};
}

// (logits of the first group, groups, stride between them, address of the center, scale, threads)
using SinkhornTuple = std::tuple<MatrixTuple, int64_t, int64_t, uintptr_t, double, int>;
// addresses of maxima and sums
using LogSumsTuple = std::tuple<uintptr_t, uintptr_t>;

Sinkhorn sinkhorn(const SinkhornTuple& t) {
  const auto& [logits, groups, stride, center, scale, threads] = t;
  return {matrix(logits), groups, stride, pointer(center), scale, threads};
}

LogSums log_sums(const LogSumsTuple& t) {
  return {pointer(std::get<0>(t)), pointer(std::get<1>(t))};
}

// (offset of the key that is the positive, addresses of labels and weights)
using PositivesTuple = std::tuple<int64_t, uintptr_t, uintptr_t>;
// (cpu::Form, whether also from keys to queries, whether rows without a positive are left out)
using FormTuple = std::tuple<int, bool, bool>;

// addresses of (data, offsets, sizes)
using ImagesTuple = std::tuple<uintptr_t, uintptr_t, uintptr_t>;
// (views, images, channels, size)
using ShapeTuple = std::tuple<int64_t, int64_t, int64_t, int64_t>;
// addresses of each channel's (scale, shift)
using AffineTuple = std::tuple<uintptr_t, uintptr_t>;
// (address, dtype, whether channels are last)
using ViewsTuple = std::tuple<uintptr_t, int, bool>;

cpu::AugmentViews augment_views(const ImagesTuple& images, uintptr_t parameters,
                                const ShapeTuple& shape, bool bicubic, const AffineTuple& affine,
                                const ViewsTuple& out, int threads) {
  const auto& [data, offsets, sizes] = images;
  const auto& [views, count, channels, size] = shape;
  const auto& [address, dtype, channels_last] = out;
  return {reinterpret_cast<const uint8_t*>(data),
          reinterpret_cast<const int64_t*>(offsets),
          reinterpret_cast<const int64_t*>(sizes),
          reinterpret_cast<const cpu::ViewParameters*>(parameters),
          views,
          count,
          channels,
          size,
          bicubic,
          pointer(std::get<0>(affine)),
          pointer(std::get<1>(affine)),
          reinterpret_cast<void*>(address),
          static_cast<DType>(dtype),
          channels_last,
          threads};
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Compiled kernels of sslkernels, over raw addresses.";
#ifdef SSLKERNELS_CUDA
  m.attr("has_cuda") = true;
#else
  m.attr("has_cuda") = false;
#endif
#ifdef _OPENMP
  m.attr("has_openmp") = true;
#else
  m.attr("has_openmp") = false;
#endif
  m.def("instruction_sets", &cpu::instruction_sets);
  m.def("use_instruction_set", &cpu::use_instruction_set);
  m.def("use_huge_pages", [](uintptr_t address, size_t bytes) {
    cpu::use_huge_pages(reinterpret_cast<void*>(address), bytes);
  });

  m.def("pairwise_logsumexp_forward", [](const MatrixTuple& q, const MatrixTuple& k, double scale,
                                         const std::vector<int64_t>& exclude, bool symmetric,
                                         int threads, uintptr_t rows, uintptr_t columns) {
    py::gil_scoped_release release;
    cpu::pairwise_logsumexp_forward(pairwise(q, k, scale, exclude, symmetric, threads),
                                    pointer(rows), pointer(columns));
  });
  m.def("pairwise_logsumexp_backward",
        [](const MatrixTuple& q, const MatrixTuple& k, double scale,
           const std::vector<int64_t>& exclude, bool symmetric, int threads,
           uintptr_t row_logsumexp, uintptr_t row_gradient, uintptr_t column_logsumexp,
           uintptr_t column_gradient, uintptr_t dq, uintptr_t dk) {
          py::gil_scoped_release release;
          cpu::pairwise_logsumexp_backward(pairwise(q, k, scale, exclude, symmetric, threads),
                                           {pointer(row_logsumexp), pointer(row_gradient)},
                                           {pointer(column_logsumexp), pointer(column_gradient)},
                                           pointer(dq), pointer(dk));
        });
  m.def("contrastive",
        [](const std::vector<MatrixTuple>& queries, const MatrixTuple& key,
           const MatrixTuple& positive, const PositivesTuple& positives,
           const std::vector<int64_t>& exclude, const FormTuple& form,
           const std::tuple<bool, bool, bool>& unit, double scale, double bias, int threads,
           int64_t workspace, uintptr_t loss, const std::array<uintptr_t, 6>& derivatives) {
          py::gil_scoped_release release;
          const auto& [offset, labels, weights] = positives;
          const auto& [kind, both_ways, skip_alone] = form;
          const auto& [unit_query, unit_key, unit_positive] = unit;
          const auto& [dquery, dother, dkey, dpositive, dscale, dbias] = derivatives;
          *pointer(loss) = static_cast<float>(
              cpu::contrastive({matrices(queries), matrix(key), matrix(positive), offset,
                                reinterpret_cast<const int64_t*>(labels), pointer(weights), exclude,
                                static_cast<cpu::Form>(kind), both_ways, skip_alone, unit_query,
                                unit_key, unit_positive, scale, bias, threads, workspace},
                               {pointer(dquery), pointer(dother), pointer(dkey), pointer(dpositive),
                                pointer(dscale), pointer(dbias)}));
        });
  m.def("covariance_loss",
        [](const MatrixTuple& a, const MatrixTuple& b, bool cross, bool standardized,
           const std::array<double, 3>& deviation, const std::array<double, 5>& weights,
           bool samples, int threads, uintptr_t loss, uintptr_t da, uintptr_t db) {
          py::gil_scoped_release release;
          const auto& [eps, correction, outer_eps] = deviation;
          const auto& [off_diagonal, diagonal, variance, variance_eps, distance] = weights;
          *pointer(loss) = static_cast<float>(cpu::covariance_loss(
              {matrix(a), matrix(b), cross, standardized, eps, correction, outer_eps, off_diagonal,
               diagonal, variance, variance_eps, distance, samples, threads},
              pointer(da), pointer(db)));
        });
  m.def("nearest_neighbor", [](const MatrixTuple& q, const MatrixTuple& k, int64_t topk,
                               const std::vector<int64_t>& exclude, int threads,
                               uintptr_t similarities, uintptr_t indices) {
    py::gil_scoped_release release;
    cpu::nearest_neighbor({matrix(q), matrix(k), topk, exclude, threads}, pointer(similarities),
                          reinterpret_cast<int64_t*>(indices));
  });

  m.def("standardized_product",
        [](const ColumnsTuple& x, const ColumnsTuple& y, bool symmetric, int threads, uintptr_t out,
           int64_t row_stride, bool accumulate) {
          py::gil_scoped_release release;
          cpu::standardized_product(columns(x), columns(y), symmetric, threads,
                                    {pointer(out), row_stride, accumulate});
        });
  m.def("row_squares", [](const ColumnsTuple& x, int threads, uintptr_t out) {
    py::gil_scoped_release release;
    cpu::row_squares(columns(x), threads, double_pointer(out));
  });
  m.def("scale_rows", [](const ColumnsTuple& x, uintptr_t factors, int threads, uintptr_t out) {
    py::gil_scoped_release release;
    cpu::scale_rows(columns(x), pointer(factors), threads, pointer(out));
  });
  m.def("column_statistics",
        [](const MatrixTuple& x, int threads, uintptr_t mean, uintptr_t squares) {
          py::gil_scoped_release release;
          cpu::column_statistics(matrix(x), threads, double_pointer(mean), double_pointer(squares));
        });
  m.def("column_dot", [](const ColumnsTuple& a, const ColumnsTuple& b, int threads, uintptr_t out) {
    py::gil_scoped_release release;
    cpu::column_dot(columns(a), columns(b), threads, double_pointer(out));
  });
  m.def("finish_columns", [](const ColumnsTuple& own, const ColumnsTuple& other, uintptr_t product,
                             int64_t row_stride, uintptr_t weight, uintptr_t slope, double factor,
                             double count, uintptr_t sums, bool compute, bool apply, int threads) {
    py::gil_scoped_release release;
    cpu::finish_columns(
        {columns(own), columns(other), pointer(product), row_stride, pointer(weight),
         pointer(slope), factor, count, double_pointer(sums), compute, apply},
        threads);
  });

  m.def("pairwise_softplus_forward",
        [](const MatrixTuple& q, const MatrixTuple& k, double scale, double bias,
           const std::vector<int64_t>& exclude, int threads, uintptr_t rows) {
          py::gil_scoped_release release;
          cpu::pairwise_softplus_forward(pairwise(q, k, scale, exclude, false, threads, bias),
                                         pointer(rows));
        });
  m.def("pairwise_softplus_backward",
        [](const MatrixTuple& q, const MatrixTuple& k, double scale, double bias,
           const std::vector<int64_t>& exclude, int threads, uintptr_t row_gradient, uintptr_t dq,
           uintptr_t dk, uintptr_t row_sigma) {
          py::gil_scoped_release release;
          cpu::pairwise_softplus_backward(pairwise(q, k, scale, exclude, false, threads, bias),
                                          pointer(row_gradient), pointer(dq), pointer(dk),
                                          pointer(row_sigma));
        });

  m.def("sliced_sums", [](const std::vector<MatrixTuple>& views, const MatrixTuple& directions,
                          double step, int knots, int threads, uintptr_t sums) {
    py::gil_scoped_release release;
    cpu::sliced_sums({matrices(views), matrix(directions), step, knots, threads}, pointer(sums));
  });
  m.def("sliced_statistics",
        [](int64_t views, int64_t slices, double step, double count,
           const std::vector<double>& weights, int threads, uintptr_t sums, uintptr_t statistics) {
          py::gil_scoped_release release;
          cpu::sliced_statistics({views, slices, step, count, weights, threads},
                                 pointer(sums), pointer(statistics));
        });
  m.def("sliced_gradient",
        [](const std::vector<MatrixTuple>& views, const MatrixTuple& directions, double step,
           int knots, int threads, uintptr_t coefficients, uintptr_t gradients, uintptr_t dz) {
          py::gil_scoped_release release;
          cpu::sliced_gradient({matrices(views), matrix(directions), step, knots, threads},
                               pointer(coefficients), pointer(gradients), pointer(dz));
        });

  m.def("soft_cross_entropy_forward",
        [](const std::vector<MatrixTuple>& student, const std::vector<MatrixTuple>& teacher,
           const CenterTuple& center, const PairsTuple& pairs, double student_scale,
           double teacher_scale, bool probabilities, int threads, const StatisticsTuple& out,
           uintptr_t entropies) {
          py::gil_scoped_release release;
          std::vector<float> rule;
          cpu::soft_cross_entropy_forward(
              soft_cross_entropy(student, teacher, center, pairs, student_scale, teacher_scale,
                                 probabilities, threads, rule),
              statistics(out), pointer(entropies));
        });
  m.def("soft_cross_entropy_backward",
        [](const std::vector<MatrixTuple>& student, const std::vector<MatrixTuple>& teacher,
           const CenterTuple& center, const PairsTuple& pairs, double student_scale,
           double teacher_scale, bool probabilities, int threads, const StatisticsTuple& known,
           uintptr_t row_grad, const std::vector<MatrixTuple>& out) {
          py::gil_scoped_release release;
          std::vector<float> rule;
          cpu::soft_cross_entropy_backward(
              soft_cross_entropy(student, teacher, center, pairs, student_scale, teacher_scale,
                                 probabilities, threads, rule),
              statistics(known), pointer(row_grad), matrices(out));
        });

  m.def("sinkhorn", [](const SinkhornTuple& problem, int iterations, uintptr_t center) {
    py::gil_scoped_release release;
    cpu::sinkhorn(sinkhorn(problem), iterations, pointer(center));
  });
  m.def("sinkhorn_columns", [](const SinkhornTuple& problem, const LogSumsTuple& out) {
    py::gil_scoped_release release;
    cpu::sinkhorn_columns(sinkhorn(problem), log_sums(out));
  });
  m.def("sinkhorn_rows", [](const SinkhornTuple& problem, const LogSumsTuple& out) {
    py::gil_scoped_release release;
    cpu::sinkhorn_rows(sinkhorn(problem), log_sums(out));
  });
  m.def("sinkhorn_masses",
        [](const SinkhornTuple& problem, const LogSumsTuple& rows, uintptr_t out) {
          py::gil_scoped_release release;
          cpu::sinkhorn_masses(sinkhorn(problem), log_sums(rows), pointer(out));
        });

  m.def("augment_views", [](const ImagesTuple& images, uintptr_t parameters,
                            const ShapeTuple& shape, bool bicubic, const AffineTuple& affine,
                            const ViewsTuple& out, int threads) {
    py::gil_scoped_release release;
    cpu::augment_views(augment_views(images, parameters, shape, bicubic, affine, out, threads));
  });

  m.def("sliced_wasserstein",
        [](const std::vector<MatrixTuple>& views, const MatrixTuple& directions,
           uintptr_t quantiles, int threads, uintptr_t loss, uintptr_t dz) {
          py::gil_scoped_release release;
          *pointer(loss) = static_cast<float>(cpu::sliced_wasserstein(
              {matrices(views), matrix(directions), pointer(quantiles), threads}, pointer(dz)));
        });
  m.def("random_directions", [](uint64_t seed, int64_t step, int64_t slices, int64_t features,
                                int dtype, int threads, uintptr_t out) {
    py::gil_scoped_release release;
    cpu::random_directions(
        {seed, static_cast<uint64_t>(step), slices, features, static_cast<DType>(dtype), threads},
        reinterpret_cast<void*>(out));
  });
  m.def("philox", [](const std::array<uint32_t, 2>& key, std::array<uint32_t, 4> counter) {
    cpu::philox(key.data(), counter.data());
    return counter;
  });

#ifdef SSLKERNELS_CUDA
  m.def("cuda_pairwise_logsumexp_reduce",
        [](uintptr_t products, uintptr_t scale, int64_t rows, int64_t columns,
           uintptr_t row_logsumexp, uintptr_t column_logsumexp, uintptr_t stream) {
          py::gil_scoped_release release;
          cuda::pairwise_logsumexp_reduce({pointer(products), pointer(scale), rows, columns},
                                          pointer(row_logsumexp), pointer(column_logsumexp),
                                          reinterpret_cast<void*>(stream));
        });
  m.def("cuda_pairwise_logsumexp_weigh",
        [](uintptr_t products, uintptr_t scale, int64_t rows, int64_t columns,
           uintptr_t row_logsumexp, uintptr_t row_gradient, uintptr_t column_logsumexp,
           uintptr_t column_gradient, uintptr_t out, int out_dtype, uintptr_t stream) {
          py::gil_scoped_release release;
          cuda::pairwise_logsumexp_weigh({pointer(products), pointer(scale), rows, columns},
                                         {pointer(row_logsumexp), pointer(row_gradient)},
                                         {pointer(column_logsumexp), pointer(column_gradient)},
                                         pointer(out), static_cast<DType>(out_dtype),
                                         reinterpret_cast<void*>(stream));
        });
  m.def("cuda_soft_cross_entropy_forward",
        [](const std::vector<MatrixTuple>& student, const std::vector<MatrixTuple>& teacher,
           const CenterTuple& center, const PairsTuple& pairs, double student_scale,
           double teacher_scale, bool probabilities, int threads, const StatisticsTuple& out,
           uintptr_t stream) {
          py::gil_scoped_release release;
          std::vector<float> none;
          cuda::soft_cross_entropy_forward(
              soft_cross_entropy(student, teacher, center, pairs, student_scale, teacher_scale,
                                 probabilities, threads, none),
              statistics(out), reinterpret_cast<void*>(stream));
        });
  m.def("cuda_soft_cross_entropy_backward",
        [](const std::vector<MatrixTuple>& student, const std::vector<MatrixTuple>& teacher,
           const CenterTuple& center, const PairsTuple& pairs, double student_scale,
           double teacher_scale, bool probabilities, int threads, const StatisticsTuple& known,
           uintptr_t row_grad, const std::vector<MatrixTuple>& out, uintptr_t stream) {
          py::gil_scoped_release release;
          std::vector<float> none;
          cuda::soft_cross_entropy_backward(
              soft_cross_entropy(student, teacher, center, pairs, student_scale, teacher_scale,
                                 probabilities, threads, none),
              statistics(known), pointer(row_grad), matrices(out), reinterpret_cast<void*>(stream));
        });
  m.def("cuda_sinkhorn_cluster", &cuda::sinkhorn_cluster);
  m.def("cuda_sinkhorn_masses", [](const SinkhornTuple& problem, uintptr_t count, int clusters,
                                   uintptr_t out, uintptr_t stream) {
    py::gil_scoped_release release;
    cuda::sinkhorn_masses(sinkhorn(problem), reinterpret_cast<const int64_t*>(count), clusters,
                          pointer(out), reinterpret_cast<void*>(stream));
  });
#endif
}
