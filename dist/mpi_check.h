// Checked MPI calls: a failure becomes an Error with the call's text and MPI's own words.
#pragma once

#include <mpi.h>

#include <source_location>

namespace longscan {

/// Throws io unless `status` is MPI_SUCCESS. Used through MPI_CHECK.
void check_mpi(int status, const char* call,
               std::source_location source = std::source_location::current());

}  // namespace longscan

#define MPI_CHECK(call) ::longscan::check_mpi((call), #call)
