// Calls into CUDA that must not fail.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

namespace longscan {

/// Throws internal with the call's text and what CUDA says. A failed allocation throws usage.
void check_cuda(cudaError_t status, const char* call,
                std::source_location source = std::source_location::current());

}  // namespace longscan

#define CUDA_CHECK(call) ::longscan::check_cuda((call), #call)
