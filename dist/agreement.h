// Ranks that must agree: on what they run, on whether to stop, and on having failed.
//
// A rank that goes its own way leaves the others waiting in a collective; here every rank learns of
// it and throws the same error instead. Everything here but the last is collective.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "dist/communicator.h"
#include "kernels/error.h"

namespace longscan {

/// Something that must be the same on all ranks, such as a hash of the resolved configuration.
struct Claim {
  std::string subject;  ///< for the message: "the configuration"
  std::string value;
};

/// Compares the claims of all ranks, which name the same subjects in the same order. Where one
/// differs, throws `kind` on every rank, naming the ranks that differ from most of the others (from
/// rank 0 in a tie) and both values.
void require_agreement(Communicator& world, std::span<const Claim> claims,
                       ErrorKind kind = ErrorKind::usage);

/// True on every rank when `flag` is true on any: a signal that reached some, a loader at its end.
bool any_rank(Communicator& world, bool flag);

/// Runs `body` on every rank. Where it throws on any, every rank throws the error of the first rank
/// that failed, naming the ranks it failed on unless it failed on all. `body` contains no
/// collective.
void on_all_ranks(Communicator& world, const std::function<void()>& body);

/// The texts of all ranks in the order of ranks, on every rank.
std::vector<std::string> gather_texts(Communicator& world, const std::string& mine);

/// The exception that is being handled, as an Error: internal where it is another one, with advice
/// where memory has run out. To be called in a catch clause.
Error error_under_way();

}  // namespace longscan
