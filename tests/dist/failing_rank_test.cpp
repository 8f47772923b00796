// A rank that fails under MPI ends the job; nobody waits for it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace longscan::test {
namespace {

/// The exit code of mpirun for a job of three ranks of which the last fails; 124 when it hangs.
int exit_code_of_failing_job(const std::string& mode) {
  const auto programs = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  const std::string command = fmt::format(
      "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout 60 "
      "mpirun --oversubscribe --bind-to none -n 3 '{}' {} > /dev/null 2>&1",
      (programs / "communicator_test").string(), mode);
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(FailingRank, ends_the_job_with_the_code_of_its_error) {
  EXPECT_EQ(exit_code_of_failing_job("--fail-by-abort"), 65);
}

TEST(FailingRank, ends_the_job_when_the_error_leaves_the_environment) {
  EXPECT_EQ(exit_code_of_failing_job("--fail-by-exception"), 70);
}

}  // namespace
}  // namespace longscan::test
