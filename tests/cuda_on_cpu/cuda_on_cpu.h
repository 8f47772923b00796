// CUDA for the host's compiler: what kernels/cuda/gpu.h includes in place of CUDA itself, so that
// the same kernels run on the CPU, in tests, under the eyes of checkers.
//
// Every thread of a block is a fiber, and blocks run one after the other. What is reported as a
// Fault: barriers and meetings of warps that not all threads come to, returning before a barrier,
// shuffles from lanes outside of the mask, launches that no GPU takes, host pointers, writes beside
// shared arrays. The address sanitizer reports accesses beside any array, and to device memory from
// the host; its companion for undefined behaviour misaligned accesses; NaNs in the result tell that
// memory was read before it was written; kernels compiled for the race checker report missing
// barriers. What is not there: clusters, TMA, wgmma, cooperative groups, the GPU's memory model,
// and time.
//
// Kernels call the tensor cores through tensor_core.h; configuration.h chooses the order of
// threads.
#pragma once

#include "tests/cuda_on_cpu/intrinsics.h"
#include "tests/cuda_on_cpu/keywords.h"
#include "tests/cuda_on_cpu/launch.h"
#include "tests/cuda_on_cpu/shared_arrays.h"
#include "tests/cuda_on_cpu/tensor_core.h"
#include "tests/cuda_on_cpu/warp.h"
