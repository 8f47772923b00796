// Embeddings and positions on the GPU against those of the CPU in double.
#include "kernels/embedding.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/cuda_case.h"
#include "tests/support/samples.h"

namespace longscan {
namespace {

using test::CudaOfType;
using test::expect_close;
using test::expect_error;
using test::in_double;
using test::OnCuda;
using test::OwnedTensor;
using test::positions_from;
using test::random_index;
using test::tolerance;

constexpr std::int64_t kFarAway = std::int64_t{1} << 40;

class EmbeddingOnCuda : public CudaOfType {};

TEST_P(EmbeddingOnCuda, LooksUpOrAddsTheEntries) {
  for (const DType index_type : {DType::i32, DType::i64}) {
    for (const std::int64_t tokens : {0, 1, 43}) {
      for (const std::int64_t width : {1, 33, 40, 64}) {
        const OwnedTensor table = OwnedTensor::random(dtype, {29, width}, 1);
        const OwnedTensor index = random_index(index_type, tokens, 29);
        OwnedTensor out(dtype, {tokens, width});
        std::vector<double> once;
        std::vector<double> twice;
        for (std::int64_t i = 0; i < out.size(); ++i) {
          const auto entry = static_cast<std::int64_t>(index.get(i / width));
          once.push_back(table.get(entry * width + i % width));
          twice.push_back(2 * once.back());
        }
        OnCuda on_gpu(gpu(), {&out, &table, &index});
        on_gpu.run(Embedding{.out = out, .table = table, .index = index});
        ASSERT_EQ(out.values(), once);
        on_gpu.run(Embedding{.out = out, .table = table, .index = index, .accumulate = true});
        ASSERT_EQ(out.values(), twice);
      }
    }
  }
}

// The gradient of a table on the GPU, and within a tolerance that of the CPU in double.
std::vector<double> checked_gradient(Device& gpu, const OwnedTensor& d_out,
                                     const OwnedTensor& index, std::int64_t entries) {
  const std::int64_t width = d_out.view().shape[1];
  OwnedTensor d_table = OwnedTensor::random(DType::f32, {entries, width}, 3);
  const OwnedTensor expected = in_double(d_table);
  Device cpu = Device::cpu(1);
  cpu.run(EmbeddingBackward{.d_table = expected, .d_out = in_double(d_out), .index = index});
  OnCuda(gpu, {&d_table, &d_out, &index})
      .run(EmbeddingBackward{.d_table = d_table, .d_out = d_out, .index = index});
  expect_close(d_table, expected.values(), 1e-5, describe(d_out));
  return d_table.values();
}

TEST_P(EmbeddingOnCuda, BackwardAddsTheGradientsOfEqualTokens) {
  for (const DType index_type : {DType::i32, DType::i64}) {
    for (const std::int64_t width : {1, 33, 40, 64}) {
      for (const std::int64_t entries : {1, 2, 29, 300}) {
        for (const std::int64_t tokens : {0, 1, 15, 16, 17, 597}) {
          const OwnedTensor d_out = OwnedTensor::random(dtype, {tokens, width}, 2);
          checked_gradient(gpu(), d_out, random_index(index_type, tokens, entries), entries);
        }
      }
    }
  }
}

TEST_P(EmbeddingOnCuda, BackwardTakesManyTokensOfFewEntriesAndFewOfMany) {
  for (const std::int64_t entries : {3, 30, 256, 257, 70000}) {
    const OwnedTensor d_out = OwnedTensor::random(dtype, {9001, 4}, 2);
    checked_gradient(gpu(), d_out, random_index(DType::i32, 9001, entries), entries);
  }
}

TEST_P(EmbeddingOnCuda, BackwardGivesTheSameBitsEveryTime) {
  const OwnedTensor d_out = OwnedTensor::random(dtype, {5000, 8}, 2);
  const OwnedTensor index = random_index(DType::i32, 5000, 300);
  EXPECT_EQ(checked_gradient(gpu(), d_out, index, 300), checked_gradient(gpu(), d_out, index, 300));
}

TEST_P(EmbeddingOnCuda, BackwardAddsInTheOrderOfTokens) {
  // 1 is lost beside 2^30 and not beside 0: the sum tells which of the three comes last.
  OwnedTensor d_out(dtype, {64, 8});
  OwnedTensor index(DType::i32, {64});
  for (std::int64_t token = 0; token < 64; ++token)
    index.set(token, static_cast<double>(token % 5));
  const double big = 0x1p30;
  for (std::int64_t i = 0; i < 8; ++i) {
    d_out.set(2 * 8 + i, big);
    d_out.set(7 * 8 + i, -big);
    d_out.set(12 * 8 + i, 1);
    d_out.set(3 * 8 + i, 1);
    d_out.set(8 * 8 + i, big);
    d_out.set(13 * 8 + i, -big);
  }
  OwnedTensor d_table(DType::f32, {5, 8});
  OnCuda(gpu(), {&d_table, &d_out, &index})
      .run(EmbeddingBackward{.d_table = d_table, .d_out = d_out, .index = index});
  EXPECT_EQ(d_table.get(2 * 8), 1);
  EXPECT_EQ(d_table.get(3 * 8), 0);
}

TEST_P(EmbeddingOnCuda, AnIndexOutsideTheTableIsNamedWhenTheDeviceIsWaitedFor) {
  for (const std::int64_t bad : {29, 1000000, -3}) {
    const OwnedTensor table = OwnedTensor::random(dtype, {29, 8}, 1);
    const OwnedTensor index(DType::i64, {3}, {28, static_cast<double>(bad), 0});
    OwnedTensor out(dtype, {3, 8});
    OwnedTensor d_table(DType::f32, {29, 8});
    const std::string text = fmt::format("index {}, ", bad);
    expect_error(ErrorKind::data, text, [&] {
      OnCuda(gpu(), {&out, &table, &index})
          .run(Embedding{.out = out, .table = table, .index = index});
    });
    gpu().synchronize();  // says it once
    expect_error(ErrorKind::data, text, [&] {
      OnCuda(gpu(), {&out, &d_table, &index})
          .run(EmbeddingBackward{.d_table = d_table, .d_out = out, .index = index});
    });
  }
}

TEST_P(EmbeddingOnCuda, SinusoidalPositionsAreThoseOfTheCpuInDouble) {
  for (const std::int64_t width : {2, 34, 256}) {
    for (const std::int64_t first : {std::int64_t{1000}, kFarAway}) {
      OwnedTensor out = OwnedTensor::random(dtype, {43, width}, 4);
      const OwnedTensor expected = in_double(out);
      const OwnedTensor position = positions_from(first, 43);
      cpu.run(SinusoidalPositions{.out = expected, .position = position});
      OnCuda(gpu(), {&out, &position}).run(SinusoidalPositions{.out = out, .position = position});
      expect_close(out, expected.values(), tolerance(dtype) / 2);
    }
  }
}

TEST_P(EmbeddingOnCuda, RotaryTurnsTheHeadsAsOnTheCpuInDouble) {
  for (const std::int64_t dim : {2, 34, 64}) {
    for (const std::int64_t gap : {5, 8}) {
      const std::int64_t heads = 3;
      const OwnedTensor position = positions_from(70, 43);
      OwnedTensor table(DType::f32, {43, dim});
      const OwnedTensor table64(DType::f64, {43, dim});
      cpu.run(RotaryTable{.table = table64, .position = position});
      OnCuda(gpu(), {&table, &position}).run(RotaryTable{.table = table, .position = position});
      for (const bool inverse : {false, true}) {
        // The heads lie between other columns, as queries do in a fused projection.
        OwnedTensor fused = OwnedTensor::random(dtype, {43, heads * dim + gap}, 5);
        const OwnedTensor expected = in_double(fused);
        const auto heads_of = [&](const OwnedTensor& tensor) {
          return tensor.view().columns(gap, gap + heads * dim).split_heads(heads);
        };
        cpu.run(Rotary{.x = heads_of(expected), .table = table64, .inverse = inverse});
        OnCuda(gpu(), {&fused, &table})
            .run(Rotary{.x = heads_of(fused), .table = table, .inverse = inverse});
        expect_close(fused, expected.values(), tolerance(dtype));
      }
    }
  }
}

TEST_P(EmbeddingOnCuda, PositionsOfNothingAreNoWork) {
  const OwnedTensor nothing(dtype, {0, 64});
  const OwnedTensor table(DType::f32, {0, 64});
  const OwnedTensor position(DType::i64, {0});
  OnCuda on_gpu(gpu(), {&nothing, &table, &position});
  on_gpu.run(SinusoidalPositions{.out = nothing, .position = position});
  on_gpu.run(RotaryTable{.table = table, .position = position});
  on_gpu.run(Rotary{.x = nothing.view().split_heads(2),
                    .table = Tensor::dense(nullptr, DType::f32, {0, 32})});
}

INSTANTIATE_TEST_SUITE_P(Types, EmbeddingOnCuda, testing::Values(DType::f32, DType::bf16),
                         test::type_name);

TEST(RotaryTableOnCuda, IsThatOfTheCpuInDoubleNearAndFar) {
  if (!test::has_cuda()) GTEST_SKIP() << "there is no GPU";
  Device gpu = Device::cuda(0);
  Device cpu = Device::cpu(1);
  for (const std::int64_t first : {std::int64_t{0}, std::int64_t{1} << 20, kFarAway - 43}) {
    for (const std::int64_t dim : {2, 34, 64, 768}) {
      OwnedTensor table(DType::f32, {43, dim});
      const OwnedTensor expected(DType::f64, {43, dim});
      const OwnedTensor position = positions_from(first, 43);
      cpu.run(RotaryTable{.table = expected, .position = position});
      OnCuda(gpu, {&table, &position}).run(RotaryTable{.table = table, .position = position});
      expect_close(table, expected.values(), 1e-7);
    }
  }
}

}  // namespace
}  // namespace longscan
