// The beginning and the end of MPI, and its error codes as errors.
#include <fmt/format.h>

#include <cstdlib>
#include <exception>
#include <string>

#include "dist/mpi_check.h"
#include "dist/mpi_communicator.h"
#include "kernels/error.h"

namespace longscan {

void check_mpi(int status, const char* call, std::source_location source) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw Error(ErrorKind::io,
              {.what = fmt::format("{} failed", call), .why = std::string(text, text + length)},
              source);
}

MpiEnvironment::MpiEnvironment(int* argument_count, char*** arguments)
    : exceptions_(std::uncaught_exceptions()) {
  int initialized = 0;
  MPI_CHECK(MPI_Initialized(&initialized));
  if (initialized) return;
  int provided = MPI_THREAD_SINGLE;
  MPI_CHECK(MPI_Init_thread(argument_count, arguments, MPI_THREAD_FUNNELED, &provided));
  owner_ = true;
  if (provided >= MPI_THREAD_FUNNELED) return;
  throw Error(ErrorKind::io, {.what = "this MPI supports no threads",
                              .why = "kernels run on threads beside the one that communicates",
                              .hint = "use an MPI library built with MPI_THREAD_FUNNELED"});
}

MpiEnvironment::~MpiEnvironment() {
  if (!owner_) return;
  if (std::uncaught_exceptions() > exceptions_) abort(exit_code(ErrorKind::internal));
  MPI_Finalize();
}

void MpiEnvironment::abort(int code) const {
  MPI_Abort(MPI_COMM_WORLD, code);
  std::_Exit(code);  // MPI_Abort does not return, but is not declared so
}

}  // namespace longscan
