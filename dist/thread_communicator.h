// Ranks as threads of one process, for tests and for programs that do without MPI.
#pragma once

#include <functional>

#include "dist/communicator.h"

namespace longscan {

/// Runs `body` on `ranks` threads, each with its rank's communicator (valid until `body` returns),
/// and returns when all have ended. When a rank throws, or returns while others wait for it, the
/// collectives of the others throw as well; the error that came first is rethrown here.
void run_ranks(int ranks, const std::function<void(Communicator&)>& body);

}  // namespace longscan
