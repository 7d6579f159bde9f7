// Which thread processes which pair of blocks, and when: within a round no two threads share a
// block of rows or of columns, so every sum has one owner, a fixed order, and needs no copy per
// thread. (Sides of very different lengths are split into strips first: strips.h.)
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace sslkernels::cpu {

struct BlockPair {
  int row, column;
};

// rounds[r][t]: the pair of thread t in round r.
using Rounds = std::vector<std::vector<std::vector<BlockPair>>>;

// All pairs of `threads` row blocks and `threads` column blocks: a rotation.
inline Rounds rectangle_rounds(int threads) {
  Rounds rounds(threads);
  for (int r = 0; r < threads; ++r)
    for (int t = 0; t < threads; ++t) rounds[r].push_back({{t, (t + r) % threads}});
  return rounds;
}

// Pairs row <= column of 2 · threads blocks: the diagonal ones, then a round-robin tournament.
inline Rounds triangle_rounds(int threads) {
  if (threads == 1) return {{{{0, 0}}}};
  const int others = 2 * threads - 1;  // every block but the last, which does not rotate
  Rounds rounds(others + 1);
  for (int t = 0; t < threads; ++t) rounds[0].push_back({{2 * t, 2 * t}, {2 * t + 1, 2 * t + 1}});
  for (int r = 0; r < others; ++r) {
    rounds[r + 1].push_back({{r, others}});
    for (int t = 1; t < threads; ++t) {
      const int a = (r + t) % others, b = (r - t + others) % others;
      rounds[r + 1].push_back({{std::min(a, b), std::max(a, b)}});
    }
  }
  return rounds;
}

}  // namespace sslkernels::cpu
