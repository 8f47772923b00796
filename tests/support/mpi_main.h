// The `main` of tests that run under mpirun: rank 0 reports as usual, the others only failures.
#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include <cstdio>
#include <string>

#include "dist/mpi_communicator.h"

namespace longscan::test {

/// Prints failures alone, with the rank in front.
class FailurePrinter final : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    fmt::print(stderr, "rank {}: {}:{}: {}\n", rank_, result.file_name() ? result.file_name() : "",
               result.line_number(), result.message());
  }

 private:
  int rank_;
};

/// Runs all tests on all ranks. A test that fails on one rank fails the program on all.
inline int run_mpi_tests(int argument_count, char** arguments) {
  const MpiEnvironment environment(&argument_count, &arguments);
  testing::InitGoogleMock(&argument_count, arguments);
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank != 0) {
    testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(rank));
  }
  int failed = RUN_ALL_TESTS();
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  return failed;
}

}  // namespace longscan::test
