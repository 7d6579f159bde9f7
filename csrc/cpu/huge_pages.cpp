#include <cstdint>

#include "sslkernels/cpu.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sslkernels::cpu {

void use_huge_pages(void* data, size_t bytes) {
#if defined(__linux__)
  constexpr uintptr_t kPage = 4096;
  const uintptr_t first = (reinterpret_cast<uintptr_t>(data) + kPage - 1) / kPage * kPage;
  const uintptr_t last = (reinterpret_cast<uintptr_t>(data) + bytes) / kPage * kPage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

}  // namespace sslkernels::cpu
