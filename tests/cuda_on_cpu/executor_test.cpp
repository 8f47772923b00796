// Threads, blocks, barriers and shared memory do what kernels expect, in every order.
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>
#include <thread>

#include "cuda_on_cpu.h"
#include "tests/cuda_on_cpu/device_array.h"

namespace longscan::cuda_on_cpu {
namespace {

__global__ void write_indices(int* out) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] = block * threads + thread;
}

TEST(Executor, EveryThreadOfEveryBlockRunsOnce) {
  in_all_orders([] {
    DeviceArray<int> out(2 * 3 * 4 * 5 * 6 * 7);
    launch(write_indices, dim3(2, 3, 4), dim3(5, 6, 7), 0, nullptr, out.get());
    std::vector<int> expected(2 * 3 * 4 * 5 * 6 * 7);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(out.values(), expected);
  });
}

// Adjacent sums of one another, again and again: each step needs all of the step before.
__global__ void add_neighbours(float* values, int steps) {
  SHARED(float, buffer, [2][256]);
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  buffer[0][thread] = values[thread];
  __syncthreads();
  for (int step = 0; step < steps; ++step) {
    const float* from = buffer[step % 2];
    buffer[(step + 1) % 2][thread] = from[thread] + from[(thread + 1) % threads];
    __syncthreads();
  }
  values[thread] = buffer[steps % 2][thread];
}

TEST(Executor, BarriersSeparateSteps) {
  in_all_orders([] {
    for (const int threads : {1, 31, 32, 33, 256}) {
      std::vector<float> expected(threads);
      for (int i = 0; i < threads; ++i) expected[i] = static_cast<float>(i % 7);
      DeviceArray<float> values(expected);
      for (int step = 0; step < 5; ++step) {
        const std::vector<float> before = expected;
        for (int i = 0; i < threads; ++i) expected[i] = before[i] + before[(i + 1) % threads];
      }
      launch(add_neighbours, 1, threads, 0, nullptr, values.get(), 5);
      EXPECT_EQ(values.values(), expected);
    }
  });
}

__global__ void vote(int* out, int threshold) {
  const int thread = static_cast<int>(threadIdx.x);
  const bool mine = thread < threshold;
  const int all = __syncthreads_and(mine);
  const int any = __syncthreads_or(mine);
  const int count = __syncthreads_count(mine);
  out[thread] = 10000 * all + 1000 * any + count;
}

TEST(Executor, VotesCountAllThreadsOfTheBlock) {
  in_all_orders([] {
    for (const int threshold : {0, 1, 43, 77}) {
      DeviceArray<int> out(77);
      launch(vote, 1, 77, 0, nullptr, out.get(), threshold);
      const int expected = 10000 * (threshold == 77) + 1000 * (threshold > 0) + threshold;
      EXPECT_EQ(out.values(), std::vector<int>(77, expected));
    }
  });
}

template <class T, int kSize>
__global__ void reverse_block(T* values) {
  SHARED(T, tile, [kSize]);
  T* mine = values + blockIdx.x * kSize;
  tile[threadIdx.x] = mine[threadIdx.x];
  __syncthreads();
  mine[threadIdx.x] = tile[kSize - 1 - threadIdx.x];
}

TEST(Executor, InstancesOfATemplateHaveTheirOwnSharedArrays) {
  std::vector<int> numbers(64 * 5);
  std::iota(numbers.begin(), numbers.end(), 0);
  DeviceArray<int> ints(numbers);
  launch(reverse_block<int, 64>, 5, 64, 0, nullptr, ints.get());
  DeviceArray<double> doubles(std::vector<double>(numbers.begin(), numbers.begin() + 32));
  launch(reverse_block<double, 32>, 1, 32, 0, nullptr, doubles.get());
  EXPECT_EQ(ints.values()[0], 63);
  EXPECT_EQ(ints.values()[64], 127);
  EXPECT_EQ(doubles.values()[0], 31);
}

__global__ void read_unwritten(float* out, float* shared, bool dynamic) {
  SHARED(float, tile, [32]);
  const float* source = dynamic ? dynamic_shared<float>() : tile;
  out[threadIdx.x] = shared != nullptr ? shared[threadIdx.x] : source[threadIdx.x];
  __syncthreads();
  tile[threadIdx.x] = dynamic_shared<float>()[threadIdx.x] = 1.0f;
}

TEST(Executor, WhatIsReadBeforeItIsWrittenIsNaN) {
  DeviceArray<float> fresh(32);
  for (const bool dynamic : {false, true}) {
    for (int again = 0; again < 2; ++again) {
      DeviceArray<float> out(32);
      launch(read_unwritten, 2, 32, 128, nullptr, out.get(), nullptr, dynamic);
      for (const float value : out.values()) EXPECT_TRUE(std::isnan(value));
    }
  }
  DeviceArray<float> out(32);
  launch(read_unwritten, 1, 32, 128, nullptr, out.get(), fresh.get(), false);
  for (const float value : out.values()) EXPECT_TRUE(std::isnan(value));
}

__global__ void use_arena(std::int64_t* out) {
  SharedArena arena;
  auto* first = arena.take<float>(3);
  auto* second = arena.take<double>(20);
  first[threadIdx.x] = 1.0f;
  second[threadIdx.x] = 2.0;
  __syncthreads();
  out[0] = static_cast<std::int64_t>(arena.used);
  out[1] =
      reinterpret_cast<std::intptr_t>(first) % 128 + reinterpret_cast<std::intptr_t>(second) % 128;
  out[2] = static_cast<std::int64_t>(first[0] + 10 * second[2]);
}

TEST(Executor, ArenaHandsOutAlignedParts) {
  DeviceArray<std::int64_t> out(3);
  launch(use_arena, 1, 3, 384, nullptr, out.get());
  EXPECT_EQ(out.values(), (std::vector<std::int64_t>{384, 0, 21}));
}

__global__ void copy_tiles(float* out, const float* in, int tiles) {
  SHARED(float4, buffer, [2][32]);
  const auto fetch = [&](int tile) {
    if (tile < tiles) {
      const int zeros = tile == tiles - 1 ? 8 : 0;
      __pipeline_memcpy_async(&buffer[tile % 2][threadIdx.x],
                              reinterpret_cast<const float4*>(in) + tile * 32 + threadIdx.x, 16,
                              zeros);
    }
    __pipeline_commit();
  };
  fetch(0);
  for (int tile = 0; tile < tiles; ++tile) {
    fetch(tile + 1);
    __pipeline_wait_prior(1);
    __syncthreads();
    reinterpret_cast<float4*>(out)[tile * 32 + threadIdx.x] = buffer[tile % 2][31 - threadIdx.x];
    __syncthreads();
  }
}

TEST(Executor, AsynchronousCopiesArriveWhenTheyAreWaitedFor) {
  constexpr int kTiles = 5;
  std::vector<float> values(kTiles * 128);
  std::iota(values.begin(), values.end(), 1.0f);
  const DeviceArray<float> in(values);
  in_all_orders([&] {
    DeviceArray<float> out(values.size());
    launch(copy_tiles, 1, 32, 0, nullptr, out.get(), in.get(), kTiles);
    const std::vector<float> found = out.values();
    for (int i = 0; i < kTiles * 128; ++i) {
      const int tile = i / 128, vector = i / 4 % 32, part = i % 4;
      const bool zero = tile == kTiles - 1 && part >= 2;
      EXPECT_EQ(found[i], zero ? 0.0f : values[tile * 128 + (31 - vector) * 4 + part]);
    }
  });
}

__global__ void note_order(int* out, int* count) {
  out[atomicAdd(count, 1)] = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
}

TEST(Executor, OrdersDiffer) {
  std::set<std::vector<int>> orders;
  in_all_orders([&] {
    DeviceArray<int> out(64), count(std::vector<int>{0});
    launch(note_order, 4, 16, 0, nullptr, out.get(), count.get());
    orders.insert(out.values());
  });
  EXPECT_EQ(orders.size(), 3u);
}

TEST(Executor, HostThreadsLaunchBesideEachOther) {
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 4; ++rank) {
    ranks.emplace_back([rank] {
      for (int again = 0; again < 50; ++again) {
        const int threads = 64 * (rank + 1);
        std::vector<float> start(threads, 1.0f);
        DeviceArray<float> values(start);
        launch(add_neighbours, 1, threads, 0, nullptr, values.get(), 4);
        EXPECT_EQ(values.values(), std::vector<float>(threads, 16.0f));
      }
    });
  }
  for (std::thread& rank : ranks) rank.join();
}

}  // namespace
}  // namespace longscan::cuda_on_cpu
