// Two splits of the world make the mesh.
#include "dist/mesh.h"

#include <fmt/format.h>

#include <string>

#include "kernels/error.h"

namespace longscan {

namespace {

std::string divisors(int number) {
  std::string list;
  for (int divisor = 1; divisor <= number; ++divisor) {
    if (number % divisor == 0) list += fmt::format("{}{}", list.empty() ? "" : ", ", divisor);
  }
  return list;
}

int ranks_of_group(int world, int sequence) {
  if (sequence == 0) return world;
  if (sequence > 0 && world % sequence == 0) return sequence;
  throw Error(
      ErrorKind::usage,
      {.what = fmt::format("{} ranks do not divide into sequence groups of {}", world, sequence),
       .why = "every line is shared by the same number of ranks",
       .hint = fmt::format("take parallel.sequence from {}, or 0 for all ranks", divisors(world))});
}

}  // namespace

Mesh::Mesh(Communicator& world, int sequence) : world_(world) {
  const int ranks = ranks_of_group(world.size(), sequence);
  sequence_ = world.split(world.rank() / ranks);
  data_ = world.split(world.rank() % ranks);
}

}  // namespace longscan
