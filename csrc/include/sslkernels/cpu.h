// Properties of the machine for the CPU kernels.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace sslkernels::cpu {

// The instruction sets that the kernels were compiled for and this processor can run, widest first.
// The first is in use.
std::vector<std::string> instruction_sets();

// For tests: run the kernels on a narrower one. False if this processor cannot.
bool use_instruction_set(const std::string& name);

// Asks the system for huge pages under memory that will be written for the first time; no effect if
// there are none.
void use_huge_pages(void* data, size_t bytes);

}  // namespace sslkernels::cpu
