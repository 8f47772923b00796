// Requests from outside to stop at the end of a step: SIGUSR1, SIGTERM, SIGINT.
#pragma once

namespace longscan {

/// From now on these signals are noted instead of ending the program, which therefore has to ask
/// for them. A second SIGINT ends it.
void note_signals();

/// The name of the last signal noted, as in "SIGUSR1"; a null pointer when there was none.
const char* noted_signal();

}  // namespace longscan
