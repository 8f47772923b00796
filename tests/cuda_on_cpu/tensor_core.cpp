// Fragments are gathered to tiles of floats, which plain loops multiply.
#include "tests/cuda_on_cpu/tensor_core.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "tests/cuda_on_cpu/race_hooks.h"

namespace longscan::cuda_on_cpu {
namespace {

constexpr int kRows = 16, kColumns = 8;

struct MmaRecord {
  float* d;
  const std::uint32_t* a;
  const std::uint32_t* b;
};

float low_bf16(std::uint32_t pair) {
  return std::bit_cast<float>(pair << 16);
}
float high_bf16(std::uint32_t pair) {
  return std::bit_cast<float>(pair & 0xffff0000u);
}
float tf32(std::uint32_t bits) {
  return std::bit_cast<float>(bits & ~0x1fffu);
}

void require_whole_warp(std::uint32_t mask) {
  if (mask != kWholeWarp)
    fail(fmt::format("tensor cores work for whole warps, not for {:08x}", mask));
}

// Lane 4 g + t holds of d the rows g and g + 8, columns 2 t and 2 t + 1.
template <int kDepth>
void multiply(void* const* records, const float (&a)[kRows][kDepth],
              const float (&b)[kDepth][kColumns]) {
  constexpr int kBlock = 8;  // rows whose sums fit in registers
  float product[kRows][kColumns];
  for (int first = 0; first < kRows; first += kBlock) {
    float sums[kBlock][kColumns] = {};
    for (int k = 0; k < kDepth; ++k) {
      for (int row = 0; row < kBlock; ++row) {
        for (int column = 0; column < kColumns; ++column) {
          sums[row][column] += a[first + row][k] * b[k][column];
        }
      }
    }
    std::memcpy(product[first], sums, sizeof sums);
  }
  for (int lane = 0; lane < kWarpSize; ++lane) {
    float* d = static_cast<const MmaRecord*>(records[lane])->d;
    const int group = lane / 4, pair = lane % 4 * 2;
    d[0] += product[group][pair];
    d[1] += product[group][pair + 1];
    d[2] += product[group + 8][pair];
    d[3] += product[group + 8][pair + 1];
  }
}

void combine_bf16(void* const* records, std::uint32_t mask) {
  require_whole_warp(mask);
  constexpr int kDepth = 16;
  float a[kRows][kDepth], b[kDepth][kColumns];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MmaRecord& record = *static_cast<const MmaRecord*>(records[lane]);
    const int group = lane / 4, pair = lane % 4 * 2;
    for (int part = 0; part < 4; ++part) {
      const int row = group + part % 2 * 8, k = pair + part / 2 * 8;
      a[row][k] = low_bf16(record.a[part]);
      a[row][k + 1] = high_bf16(record.a[part]);
    }
    for (int part = 0; part < 2; ++part) {
      b[pair + part * 8][group] = low_bf16(record.b[part]);
      b[pair + part * 8 + 1][group] = high_bf16(record.b[part]);
    }
  }
  multiply<kDepth>(records, a, b);
}

void combine_tf32(void* const* records, std::uint32_t mask) {
  require_whole_warp(mask);
  constexpr int kDepth = 8;
  float a[kRows][kDepth], b[kDepth][kColumns];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const MmaRecord& record = *static_cast<const MmaRecord*>(records[lane]);
    const int group = lane / 4, one = lane % 4;
    for (int part = 0; part < 4; ++part) {
      a[group + part % 2 * 8][one + part / 2 * 4] = tf32(record.a[part]);
    }
    for (int part = 0; part < 2; ++part) b[one + part * 4][group] = tf32(record.b[part]);
  }
  multiply<kDepth>(records, a, b);
}

constexpr int kMatrices = 4, kMatrixRows = 8, kRowBytes = 16;

struct LoadRecord {
  std::uint32_t* r;
  const std::byte* row;
};

// Lane 4 g + t gets the elements 2 t and 2 t + 1 of row g of every matrix.
void combine_load(void* const* records, std::uint32_t mask) {
  require_whole_warp(mask);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    std::uint32_t* r = static_cast<const LoadRecord*>(records[lane])->r;
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      const void* source = records[matrix * kMatrixRows + lane / 4];
      std::memcpy(&r[matrix], static_cast<const LoadRecord*>(source)->row + lane % 4 * 4, 4);
    }
  }
}

// Lane 4 g + t gets the elements g of rows 2 t and 2 t + 1.
void combine_load_transposed(void* const* records, std::uint32_t mask) {
  require_whole_warp(mask);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    std::uint32_t* r = static_cast<const LoadRecord*>(records[lane])->r;
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      std::uint16_t pair[2];
      for (int i = 0; i < 2; ++i) {
        const void* source = records[matrix * kMatrixRows + lane % 4 * 2 + i];
        std::memcpy(&pair[i], static_cast<const LoadRecord*>(source)->row + lane / 4 * 2, 2);
      }
      r[matrix] = static_cast<std::uint32_t>(pair[1]) << 16 | pair[0];
    }
  }
}

void load_matrices(std::uint32_t (&r)[4], const void* row, Combine combine, const Location& where,
                   const void* code) {
  if (reinterpret_cast<std::uintptr_t>(row) % kRowBytes != 0 || !is_shared(row)) {
    fail(fmt::format("ldmatrix at {}: {} is not in shared memory at a multiple of {} bytes",
                     describe(where), fmt::ptr(row), kRowBytes));
  }
  note_access(row, kRowBytes, AccessKind::read, code);
  LoadRecord record{r, static_cast<const std::byte*>(row)};
  meet_in_warp(kWholeWarp, &record, combine, where);
}

}  // namespace

void warp_mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                       Location where) {
  MmaRecord record{d, a, b};
  meet_in_warp(kWholeWarp, &record, combine_bf16, where);
}

void warp_mma_m16n8k8_tf32(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                           Location where) {
  MmaRecord record{d, a, b};
  meet_in_warp(kWholeWarp, &record, combine_tf32, where);
}

void warp_ldmatrix_x4(std::uint32_t (&r)[4], const void* row, Location where) {
  load_matrices(r, row, combine_load, where, __builtin_return_address(0));
}

void warp_ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* row, Location where) {
  load_matrices(r, row, combine_load_transposed, where, __builtin_return_address(0));
}

}  // namespace longscan::cuda_on_cpu
