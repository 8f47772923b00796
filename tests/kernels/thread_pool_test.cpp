// The thread pool: every index once, exceptions come out, ready again at once.
#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <stdexcept>
#include <vector>

#include "kernels/cpu/cpu.h"
#include "tests/support/reference.h"

namespace longscan {
namespace {

TEST(ThreadPool, TakesEveryIndexOnceOnAKnownThread) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> taken(static_cast<std::size_t>(count));
      std::atomic<int> strangers = 0;
      pool.for_each(count, [&](std::int64_t index, int thread) {
        ++taken[static_cast<std::size_t>(index)];
        if (thread < 0 || thread >= threads) ++strangers;
      });
      for (const std::atomic<int>& times : taken) EXPECT_EQ(times, 1);
      EXPECT_EQ(strangers, 0);
    }
  }
}

TEST(ThreadPool, NeverGivesOneThreadNumberToTwoBodiesAtATime) {
  ThreadPool pool(3);
  std::vector<std::atomic<int>> inside(3);
  std::atomic<int> clashes = 0;
  pool.for_each(20000, [&](std::int64_t, int thread) {
    if (++inside[static_cast<std::size_t>(thread)] != 1) ++clashes;
    --inside[static_cast<std::size_t>(thread)];
  });
  EXPECT_EQ(clashes, 0);
}

TEST(ThreadPool, IsReadyAgainTenThousandTimes) {
  ThreadPool pool(3);
  std::atomic<std::int64_t> sum = 0;
  for (int round = 0; round < 10000; ++round) {
    pool.for_each(5, [&](std::int64_t index, int) { sum += index; });
  }
  EXPECT_EQ(sum, 10 * 10000);
}

TEST(ThreadPool, ThrowsWhatABodyThrewAndWorksOn) {
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    const auto fail = [](std::int64_t index, int) {
      if (index == 41) throw std::out_of_range("index 41");
    };
    for (int round = 0; round < 100; ++round) {
      EXPECT_THROW(pool.for_each(100, fail), std::out_of_range);
      std::atomic<int> count = 0;
      pool.for_each(10, [&](std::int64_t, int) { ++count; });
      EXPECT_EQ(count, 10);
    }
  }
}

TEST(ThreadPool, EveryBodyMayThrow) {
  ThreadPool pool(3);
  const auto fail = [](std::int64_t, int) { throw std::runtime_error("always"); };
  EXPECT_THROW(pool.for_each(1000, fail), std::runtime_error);
}

TEST(ThreadPool, NeedsAThread) {
  test::expect_error(ErrorKind::internal, "ThreadPool.threads", [] { ThreadPool pool(0); });
}

TEST(Cpu, BlocksCoverTheRangeAtTheSameCutsOnAnyNumberOfThreads) {
  for (const int threads : {1, 2, 3}) {
    Cpu cpu(threads);
    std::vector<std::int64_t> ends(7, -1);
    cpu.for_blocks(61, 10, [&](std::int64_t begin, std::int64_t end, int) {
      ends[static_cast<std::size_t>(begin / 10)] = begin % 10 == 0 ? end : -2;
    });
    EXPECT_EQ(ends, (std::vector<std::int64_t>{10, 20, 30, 40, 50, 60, 61}));
  }
}

TEST(Cpu, ScratchOfThreadsAndOfAllIsApart) {
  Cpu cpu(2);
  auto* first = cpu.scratch<float>(0, 100);
  auto* second = cpu.scratch<float>(1, 100);
  auto* shared = cpu.shared_scratch<float>(100);
  std::fill_n(first, 100, 1.0f);
  std::fill_n(second, 100, 2.0f);
  std::fill_n(shared, 100, 3.0f);
  EXPECT_EQ(std::accumulate(first, first + 100, 0.0f), 100);
  EXPECT_EQ(std::accumulate(second, second + 100, 0.0f), 200);
  EXPECT_EQ(cpu.scratch<float>(0, 50), first);
}

}  // namespace
}  // namespace longscan
