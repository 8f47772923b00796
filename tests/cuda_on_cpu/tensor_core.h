// What the tensor cores of a warp compute, in the lane layouts of the PTX ISA, sections "Matrix
// fragments for mma.m16n8k16", "mma.m16n8k8" and "ldmatrix".
#pragma once

#include <cstdint>

#include "tests/cuda_on_cpu/executor.h"

namespace longscan::cuda_on_cpu {

/// d += a b with bf16 a [16, 16] by rows and b [16, 8] by columns.
void warp_mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                       Location where = Location::current());
/// d += a b with tf32 a [16, 8] by rows and b [8, 8] by columns; of the floats given only the bits
/// that tf32 has count.
void warp_mma_m16n8k8_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                           Location where = Location::current());
/// Four 8 x 8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8.
void warp_ldmatrix_x4(std::uint32_t (&r)[4], const void* row, Location where = Location::current());
/// The same with every matrix transposed.
void warp_ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row,
                            Location where = Location::current());

}  // namespace longscan::cuda_on_cpu
