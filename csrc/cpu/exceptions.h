// An exception may not leave a parallel region, where it would end the process.
#pragma once

#include <exception>

namespace sslkernels::cpu::SSLKERNELS_ISA {

// Keeps the first exception of any thread, and rethrows it in the calling thread.
class Exceptions {
 public:
  template <class Body>
  void keep(const Body& body) noexcept {
    try {
      body();
    } catch (...) {
#pragma omp critical(sslkernels_exceptions)
      if (!first_) first_ = std::current_exception();
    }
  }
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  std::exception_ptr first_;
};

}  // namespace sslkernels::cpu::SSLKERNELS_ISA
