// The name of the machine, as other machines know it.
#pragma once

#include <unistd.h>

#include <string>

namespace longscan {

/// "localhost" where it has none.
inline std::string host_name() {
  char name[256] = {};  // the last byte stays zero
  return ::gethostname(name, sizeof(name) - 1) == 0 ? name : "localhost";
}

}  // namespace longscan
