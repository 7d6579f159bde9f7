// A contrastive loss, and its gradients if wanted, in one call on the CPU.
// The maths is in sslkernels/primitives/contrastive/README.md.
#pragma once

#include <vector>

#include "sslkernels/tensor.h"

namespace sslkernels::cpu {

enum class Form : int {
  cross_entropy = 0,  // log(1 + e^(negatives - positive)), negatives a log-sum-exp
  decoupled = 1,      // negatives - positive
  sigmoid = 2,        // sum of softplus(negative) + softplus(-positive)
};

struct Contrastive {
  std::vector<Matrix> queries;   // one or two matrices, whose rows follow each other: (n, d)
  Matrix key;                    // (m, d); data null: the queries are the keys
  Matrix positive;               // (n, d): row i is the positive of query i; data null: see below
  int64_t offset;                // key (i + offset) mod m is the positive of query i
  const int64_t* labels;         // (n) or null: the positive is the mean of the label's other rows
  const float* weights;          // (n) or null: factors of the positives
  std::vector<int64_t> exclude;  // diagonals j - i that are not negatives
  Form form;
  bool columns;                              // also from keys to queries; the mean of both
  bool skip_alone;                           // the mean is over the rows whose label has other rows
  bool unit_query, unit_key, unit_positive;  // normalised first
  double scale, bias;
  int threads;
  int64_t workspace;  // bytes for scores; larger ones are computed twice
};

// Contiguous float32; null if not wanted.
struct ContrastiveGradients {
  float *query, *other;  // of the first and the second matrix of queries
  float *key, *positive, *scale, *bias;
};

// Returns the loss.
double contrastive(const Contrastive& problem, const ContrastiveGradients& gradients);

}  // namespace sslkernels::cpu
