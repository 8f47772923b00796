// The program on GPUs: the same runs as on CPUs, and what it says where there are none. The GPU is
// one that tests have on every machine.
#ifdef LONGSCAN_CUDA_PROGRAM

#include <cmath>

#include "tests/support/program.h"

namespace longscan::test {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class CudaTest : public ProgramTest {
 protected:
  void SetUp() override { make_corpus(); }

  std::string on_gpu(int ranks, const std::string& arguments) {
    const Outcome outcome = shell(mpirun() + " -n " + std::to_string(ranks) +
                                  " '" LONGSCAN_CUDA_PROGRAM "' " + arguments);
    EXPECT_EQ(outcome.code, 0) << outcome.errors << outcome.output;
    return outcome.output;
  }
  static void expect_near(const std::vector<double>& a, const std::vector<double>& b,
                          double tolerance) {
    ASSERT_THAT(a, SizeIs(b.size()));
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], tolerance) << i;
  }
};

TEST_F(CudaTest, trains_as_the_cpu_does_on_any_ranks) {
  const std::string train = "train --config small.textproto --max-steps 4 --set data.batch=2 ";
  succeed(train + "--run cpu --device=cpu");
  const std::vector<double> loss = metric(folder_ / "cpu", "loss");
  EXPECT_THAT(loss, SizeIs(4));
  for (const int ranks : {1, 2}) {
    const std::string run = "gpu-" + std::to_string(ranks);
    const std::string told = on_gpu(ranks, train + "--device=cuda --communicator=mpi --run " + run);
    EXPECT_THAT(told, HasSubstr("fp32, by MPI"));
    expect_near(metric(folder_ / run, "loss"), loss, 1e-4);
    expect_near(metric(folder_ / run, "validation_loss"),
                metric(folder_ / "cpu", "validation_loss"), 1e-4);
  }
  on_gpu(2, train + "--precision=bf16 --communicator=mpi --run rounded");
  expect_near(metric(folder_ / "rounded", "loss"), loss, 2e-2);
}

TEST_F(CudaTest, tells_of_the_memory_of_the_gpu_and_not_of_the_host) {
  const std::string train = "train --config small.textproto --max-steps 2 --device=cuda --run run ";
  const std::string told = on_gpu(1, train + "--dry-run");
  EXPECT_THAT(told, HasSubstr("memory a rank on its GPU, about "));
  EXPECT_THAT(told, HasSubstr(", beside 32.0 MiB that are in use there already"));  // workspace
  EXPECT_THAT(told, HasSubstr("  scratch "));
  EXPECT_THAT(told, HasSubstr("memory a rank on its host"));
  on_gpu(1, train);
  const std::vector<double> memory = metric(folder_ / "run", "memory_bytes");
  ASSERT_THAT(memory, SizeIs(2));
  EXPECT_GT(memory.back(), 32 << 20);
  EXPECT_LT(memory.back(), 40 << 20);
}

TEST_F(CudaTest, checkpoints_go_from_gpu_to_cpu_and_back) {
  const std::string common = "train --config small.textproto --set data.batch=2 --run ";
  const std::string train = common + "run --max-steps ";
  on_gpu(1, train + "2");
  succeed(train + "4 --device=cpu");
  on_gpu(2, train + "6 --communicator=mpi");
  succeed(common + "cpu --max-steps 6");
  expect_near({metric(folder_ / "run", "loss").back()}, {metric(folder_ / "cpu", "loss").back()},
              1e-4);
  const std::string evaluated = on_gpu(2, "eval --checkpoint run --windows 4 --communicator=mpi");
  EXPECT_NEAR(number_behind(evaluated, "loss"),
              number_behind(succeed("eval --checkpoint run --windows 4"), "loss"), 1e-3);
  EXPECT_EQ(on_gpu(1, "generate --checkpoint run --samples 2 --max-tokens 20"),
            succeed("generate --checkpoint run --samples 2 --max-tokens 20"));
}

TEST_F(CudaTest, a_gpu_that_is_not_there_is_an_error_that_says_what_is_missing) {
  const Outcome outcome = shell("CUDA_VISIBLE_DEVICES= " + program() +
                                " train --config small.textproto --run run --device=cuda");
  EXPECT_EQ(outcome.code, 64);
  EXPECT_THAT(outcome.errors, HasSubstr("there is no GPU to compute on"));
  const Outcome rounded = longscan(
      "train --config small.textproto --run run --device=cpu "
      "--precision=bf16");
  EXPECT_EQ(rounded.code, 64);
  EXPECT_THAT(rounded.errors, HasSubstr("the CPU cannot compute in bf16"));
}

}  // namespace
}  // namespace longscan::test

#endif
