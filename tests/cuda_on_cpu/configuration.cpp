// The configuration as the environment gives it.
#include "tests/cuda_on_cpu/configuration.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace longscan::cuda_on_cpu {
namespace {

std::string variable(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

// A word that is misspelt would silently test less than was asked for.
[[noreturn]] void refuse(const char* name, const std::string& value) {
  throw std::invalid_argument(std::string(name) + " is '" + value + "'");
}

Configuration from_environment() {
  Configuration result;
  const std::string order = variable("CUDA_ON_CPU_ORDER", "forward");
  if (order == "reverse") {
    result.order = Order::reverse;
  } else if (order == "random") {
    result.order = Order::random;
  } else if (order != "forward") {
    refuse("CUDA_ON_CPU_ORDER", order);
  }
  const std::string arrival = variable("CUDA_ON_CPU_ARRIVAL", "late");
  if (arrival == "early") {
    result.arrival = Arrival::early;
  } else if (arrival != "late") {
    refuse("CUDA_ON_CPU_ARRIVAL", arrival);
  }
  result.seed = static_cast<unsigned>(std::stoul(variable("CUDA_ON_CPU_SEED", "1")));
  return result;
}

}  // namespace

Configuration& configuration() {
  static Configuration instance = from_environment();
  return instance;
}

}  // namespace longscan::cuda_on_cpu
