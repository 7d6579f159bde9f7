// The instruction sets that the CPU kernels were compiled for.
#pragma once

#include <string>
#include <vector>

namespace sslkernels::cpu {

// Those this processor can run, widest first. The first is in use.
std::vector<std::string> instruction_sets();

// For tests: run the kernels on a narrower one. False if this processor cannot.
bool use_instruction_set(const std::string& name);

}  // namespace sslkernels::cpu
