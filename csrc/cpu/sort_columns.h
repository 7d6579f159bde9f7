// Sorts each lane of an array of vectors independently, with a network: no data-dependent branch.
#pragma once

#include <algorithm>

#include "vector.h"

namespace sslkernels::cpu::SSLKERNELS_ISA {

inline VecInt load_integers(const int32_t* p) {
  VecInt v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline void store_integers(int32_t* p, VecInt v) { __builtin_memcpy(p, &v, sizeof v); }

// Batcher's bitonic sort. All comparators put the smaller number first, so the infinite numbers
// that pad the n vectors to a power of two never move.
//
// kTracked: the original places move with the numbers; a NaN may end anywhere, but places stay a
// permutation.
template <bool kTracked>
class ColumnSort {
 public:
  // Memory for n vectors of sorted keys, and for their places if tracked.
  ColumnSort(int64_t n, float* keys, int32_t* places) : n_(n), keys_(keys), places_(places) {}

  // Sorts vectors that are `stride` floats apart.
  void sort(const float* from, int64_t stride) {
    from_ = from;
    stride_ = stride;
    int64_t size = kBase;
    while (size < n_) size *= 2;
    sort_block(0, size);
  }

 private:
  static constexpr int kBase = 8;  // vectors sorted in registers

  template <int kCount>
  struct Group {
    Vec key[kCount];
    VecInt place[kCount];

    void order(int i, int j) {
      Vec &a = key[i], &b = key[j];
      if constexpr (kTracked) {
        VecInt &p = place[i], &q = place[j];
#if defined(__AVX512F__)
        const __mmask16 swapped = _mm512_cmp_ps_mask((__m512)b, (__m512)a, _CMP_LT_OQ);
        const VecInt low = (VecInt)_mm512_mask_mov_epi32((__m512i)p, swapped, (__m512i)q);
        q = (VecInt)_mm512_mask_mov_epi32((__m512i)q, swapped, (__m512i)p);
#else
        const VecInt swapped = b < a;
        const VecInt low = swapped ? q : p;
        q = swapped ? p : q;
#endif
        p = low;
      }
      const Vec low = b < a ? b : a;
      b = b < a ? a : b;
      a = low;
    }

    // Sorts bitonic runs of 2 kLast.
    template <int kFirst, int kLast = 1>
    void clean() {
      for (int i = 0; i < kCount; ++i)
        if (!(i & kFirst)) order(i, i + kFirst);
      if constexpr (kFirst > kLast) clean<kFirst / 2, kLast>();
    }
  };

  // Applies `change` to vectors first, first + step, …. Those from n on are infinite, and stay.
  template <int kCount, class At, class Change>
  void pass(int64_t count, const At& at, bool whole, const Change& change) {
    for (int64_t i = 0; i < count; ++i) {
      Group<kCount> group;
      for (int t = 0; t < kCount; ++t) {
        const int64_t from = at(i, t);
        const bool known = whole || from < n_;
        group.key[t] = known ? load(keys_ + from * kLanes) : broadcast(__builtin_inff());
        if constexpr (kTracked)
          group.place[t] = known ? load_integers(places_ + from * kLanes) : VecInt{};
      }
      change(group);
      for (int t = 0; t < kCount; ++t) {
        const int64_t to = at(i, t);
        if (!whole && to >= n_) continue;
        store(keys_ + to * kLanes, group.key[t]);
        if constexpr (kTracked) store_integers(places_ + to * kLanes, group.place[t]);
      }
    }
  }

  void sort_block(int64_t first, int64_t size) {
    if (first >= n_) return;
    if (size == kBase) return sort_base(first);
    sort_block(first, size / 2);
    sort_block(first + size / 2, size / 2);
    if (first + size / 2 < n_) merge(first, size);
  }

  void sort_base(int64_t first) {
    Group<kBase> group;
    for (int t = 0; t < kBase; ++t) {
      const bool known = first + t < n_;
      group.key[t] = known ? load(from_ + (first + t) * stride_) : broadcast(__builtin_inff());
      group.place[t] = static_cast<int32_t>(first + t) - VecInt{};
    }
    constexpr int kPairs[][2] = {{0, 1}, {2, 3}, {4, 5}, {6, 7}, {0, 2}, {1, 3}, {4, 6},
                                 {5, 7}, {1, 2}, {5, 6}, {0, 4}, {1, 5}, {2, 6}, {3, 7},
                                 {2, 4}, {3, 5}, {1, 2}, {3, 4}, {5, 6}};
#pragma GCC unroll 19
    for (int k = 0; k < 19; ++k) group.order(kPairs[k][0], kPairs[k][1]);
    for (int t = 0; t < kBase && first + t < n_; ++t) {
      store(keys_ + (first + t) * kLanes, group.key[t]);
      if constexpr (kTracked) store_integers(places_ + (first + t) * kLanes, group.place[t]);
    }
  }

  // Merges two sorted halves, the second of which is read backwards.
  void merge(int64_t first, int64_t size) {
    switch (size) {
      case 2 * kBase: merge_by<2>(first, size); break;
      case 4 * kBase: merge_by<4>(first, size); break;
      default: merge_by<8>(first, size);
    }
  }

  template <int kCount>
  void merge_by(int64_t first, int64_t size) {
    const int64_t step = size / kCount, last = first + size - 1;
    const auto at = [=](int64_t i, int t) {
      return t < kCount / 2 ? first + i + t * step : last - i - (kCount - 1 - t) * step;
    };
    pass<kCount>(step, at, first + size <= n_, [](Group<kCount>& group) {
      for (int t = 0; t < kCount / 2; ++t) group.order(t, kCount - 1 - t);
      if constexpr (kCount > 2) group.template clean<kCount / 4>();
    });
    for (int t = 0; t < kCount; ++t) clean(first + t * step, step);
  }

  void clean(int64_t first, int64_t size) {
    if (first >= n_) return;
    switch (size) {
      case kBase: clean_by<8>(first, size); break;
      case 2 * kBase: clean_by<2>(first, size); break;
      case 4 * kBase: clean_by<4>(first, size); break;
      default: clean_by<8>(first, size);
    }
  }

  template <int kCount>
  void clean_by(int64_t first, int64_t size) {
    const int64_t step = size / kCount;
    const auto at = [=](int64_t i, int t) { return first + i + t * step; };
    pass<kCount>(step, at, first + size <= n_,
                 [](Group<kCount>& group) { group.template clean<kCount / 2>(); });
    if (step == 1) return;
    for (int t = 0; t < kCount; ++t) clean(first + t * step, step);
  }

  const int64_t n_;
  float* keys_;
  int32_t* places_;
  const float* from_ = nullptr;
  int64_t stride_ = 0;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
