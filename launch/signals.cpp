// A handler that notes the number of the signal and does nothing else.
#include "launch/signals.h"

#include <csignal>

namespace longscan {

namespace {

// The one variable of its kind: a signal handler can reach nothing else.
volatile std::sig_atomic_t noted = 0;

void note(int signal) {
  noted = signal;
}

void handle(int signal, int flags) {
  struct sigaction action {};
  action.sa_handler = note;
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
}

}  // namespace

void note_signals() {
  handle(SIGUSR1, SA_RESTART);
  handle(SIGTERM, SA_RESTART);
  handle(SIGINT, SA_RESTART | SA_RESETHAND);
}

const char* noted_signal() {
  switch (noted) {
    case SIGUSR1:
      return "SIGUSR1";
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    default:
      return nullptr;
  }
}

}  // namespace longscan
