// The program `longscan`: starts MPI, runs a verb on all ranks, and tells errors in one place.
#include <cstdio>

#include "dist/agreement.h"
#include "dist/mpi_communicator.h"
#include "kernels/error.h"
#include "launch/command_line.h"
#include "launch/session.h"

namespace longscan {
namespace {

/// Ranks that fail alike do so within this time of each other.
constexpr double kPatienceSeconds = 2;

std::string words_of(int argument_count, char** arguments) {
  return fmt::format("'{}'", fmt::join(arguments + 1, arguments + argument_count, " "));
}

void run_verb(Communicator& world, int argument_count, char** arguments) {
  Session session(world);
  CommandLine command_line;
  std::string answer;
  on_all_ranks(world, [&] { answer = command_line.parse(argument_count, arguments); });
  // Training compares what comes of the command line: ranks may be given different threads.
  const std::string verb = command_line.verb();
  const std::array<Claim, 3> claims{
      Claim{"the verb", verb}, Claim{"asking for help", answer.empty() ? "no" : "yes"},
      Claim{"the command line", verb == "train" ? "" : words_of(argument_count, arguments)}};
  require_agreement(world, claims);
  if (answer.empty()) {
    command_line.run(session);
  } else {
    session.say("{}", answer);
  }
}

int report(const MpiEnvironment& mpi, MpiCommunicator& failures, const Error& error) {
  // The others may have failed as well, or wait for this rank in a collective.
  const bool everywhere = failures.all_arrive(kPatienceSeconds);
  if (everywhere) {
    if (failures.rank() == 0) fmt::print(stderr, "longscan: {}\n", error.what());
  } else {
    fmt::print(stderr, "longscan: {} (on rank {} alone)\n", error.what(), failures.rank());
    mpi.abort(exit_code(error.kind()));
  }
  return exit_code(error.kind());
}

int run_program(int argument_count, char** arguments) {
  const MpiEnvironment mpi(&argument_count, &arguments);
  MpiCommunicator world(MPI_COMM_WORLD);
  MpiCommunicator failures(MPI_COMM_WORLD);
  try {
    run_verb(world, argument_count, arguments);
    return 0;
  } catch (...) {
    return report(mpi, failures, error_under_way());
  }
}

}  // namespace
}  // namespace longscan

int main(int argument_count, char** arguments) {
  try {
    return longscan::run_program(argument_count, arguments);
  } catch (const longscan::Error& error) {
    fmt::print(stderr, "longscan: {}\n", error.what());
    return longscan::exit_code(error.kind());
  }
}
