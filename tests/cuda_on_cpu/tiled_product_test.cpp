// A whole kernel with copies, barriers and tensor cores: right in every order, and wrong in some
// order where what keeps its steps apart is left out.
#include "tests/cuda_on_cpu/tiled_product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {
namespace {

class TiledProductTest : public testing::Test {
 protected:
  static std::vector<__nv_bfloat16> random_values(int size, unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    std::vector<__nv_bfloat16> values;
    for (int i = 0; i < size; ++i) values.push_back(__float2bfloat16(normal(random)));
    return values;
  }

  // How many elements are not the triple loop's in double, over all orders.
  template <LeftOut kLeftOut = LeftOut::nothing>
  int wrong_elements(int rows, int columns, int depth) {
    const auto a = random_values(rows * depth, 1), b = random_values(columns * depth, 2);
    const DeviceArray<__nv_bfloat16> device_a(a), device_b(b);
    int wrong = 0;
    in_all_orders([&] {
      DeviceArray<float> out(static_cast<std::size_t>(rows) * columns);
      launch_tiled_product<kLeftOut>(
          {out.get(), device_a.get(), device_b.get(), rows, columns, depth});
      const std::vector<float> found = out.values();
      for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < columns; ++column) {
          double sum = 0;
          for (int k = 0; k < depth; ++k) {
            sum += static_cast<double>(static_cast<float>(a[row * depth + k])) *
                   static_cast<double>(static_cast<float>(b[column * depth + k]));
          }
          wrong += !(std::abs(found[row * columns + column] - sum) < 1e-4);
        }
      }
    });
    return wrong;
  }
};

TEST_F(TiledProductTest, IsTheTripleLoop) {
  EXPECT_EQ(wrong_elements(1, 1, 16), 0);
  EXPECT_EQ(wrong_elements(43, 33, 64), 0);
  EXPECT_EQ(wrong_elements(64, 32, 48), 0);
}

TEST_F(TiledProductTest, IsWrongInSomeOrderWithoutABarrier) {
  EXPECT_GT(wrong_elements<LeftOut::wait_for_copies>(64, 32, 64), 0);
  EXPECT_GT(wrong_elements<LeftOut::barrier_after_arrival>(64, 32, 64), 0);
  EXPECT_GT(wrong_elements<LeftOut::barrier_before_next_copies>(64, 32, 64), 0);
}

}  // namespace
}  // namespace longscan::cuda_on_cpu
