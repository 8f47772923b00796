// Texts are gathered and compared on every rank, so that all come to the same verdict.
#include "dist/agreement.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <new>
#include <optional>

namespace longscan {

namespace {

/// "rank 3", "ranks 0 and 2", "ranks 1, 2 and 5".
std::string name_ranks(const std::vector<std::size_t>& ranks) {
  std::string names = fmt::format("rank{} {}", ranks.size() > 1 ? "s" : "", ranks.front());
  for (std::size_t i = 1; i < ranks.size(); ++i) {
    names += fmt::format("{} {}", i + 1 == ranks.size() ? " and" : ",", ranks[i]);
  }
  return names;
}

/// What most ranks say; in a tie that of the lowest rank among those most often said.
const std::string& majority(const std::vector<std::string>& values) {
  const auto votes = [&](const std::string& value) {
    return std::count(values.begin(), values.end(), value);
  };
  return *std::max_element(
      values.begin(), values.end(),
      [&](const std::string& a, const std::string& b) { return votes(a) < votes(b); });
}

std::optional<Error> error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (...) {
    return error_under_way();
  }
  return std::nullopt;
}

}  // namespace

Error error_under_way() {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ErrorKind::internal,
                 {.what = "there is not enough memory",
                  .why = "the system has refused more",
                  .hint = "use more ranks, shorter segments (training.segment) or a smaller model; "
                          "`longscan train --dry-run` tells what a run needs",
                  .where = "memory"});
  } catch (const std::exception& error) {
    return Error(ErrorKind::internal, {.what = error.what()});
  }
}

std::vector<std::string> gather_texts(Communicator& world, const std::string& mine) {
  const auto ranks = static_cast<std::size_t>(world.size());
  const std::int64_t my_length = std::ssize(mine);
  std::vector<std::int64_t> lengths(ranks);
  world.all_gather(&my_length, lengths.data(), sizeof(my_length));

  const auto longest = static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end()));
  std::string padded = mine;
  padded.resize(longest);
  std::string all(ranks * longest, '\0');
  world.all_gather(padded.data(), all.data(), static_cast<std::int64_t>(longest));
  std::vector<std::string> texts;
  for (std::size_t rank = 0; rank < ranks; ++rank) {
    texts.push_back(all.substr(rank * longest, static_cast<std::size_t>(lengths[rank])));
  }
  return texts;
}

void require_agreement(Communicator& world, std::span<const Claim> claims, ErrorKind kind) {
  for (const Claim& claim : claims) {
    const std::vector<std::string> values = gather_texts(world, claim.value);
    const std::string& expected = majority(values);
    std::vector<std::size_t> odd;
    for (std::size_t rank = 0; rank < values.size(); ++rank) {
      if (values[rank] != expected) odd.push_back(rank);
    }
    if (odd.empty()) continue;
    const auto other = std::find(values.begin(), values.end(), expected) - values.begin();
    throw Error(kind, {.what = fmt::format("{} differ{} in {}", name_ranks(odd),
                                           odd.size() > 1 ? "" : "s", claim.subject),
                       .why = fmt::format("rank {} has {}, rank {} has {}", odd.front(),
                                          values[odd.front()], other, expected),
                       .hint = "start every rank with the same program, options and files"});
  }
}

bool any_rank(Communicator& world, bool flag) {
  const std::uint8_t mine = flag ? 1 : 0;
  std::vector<std::uint8_t> all(static_cast<std::size_t>(world.size()));
  world.all_gather(&mine, all.data(), sizeof(mine));
  return std::find(all.begin(), all.end(), 1) != all.end();
}

void on_all_ranks(Communicator& world, const std::function<void()>& body) {
  const std::optional<Error> mine = error_of(body);
  if (!any_rank(world, mine.has_value())) return;

  // The kind as one letter and the message behind it; empty where the rank is well.
  const std::vector<std::string> reports =
      gather_texts(world, mine ? static_cast<char>('0' + static_cast<int>(mine->kind())) +
                                     std::string(mine->what())
                               : std::string());
  std::vector<std::size_t> failed;
  for (std::size_t rank = 0; rank < reports.size(); ++rank) {
    if (!reports[rank].empty()) failed.push_back(rank);
  }
  const std::string& first = reports[failed.front()];
  const bool everywhere = failed.size() == reports.size();
  // Errors begin with their place, which stays in front.
  const std::size_t place_end = first.find(": ");
  throw Error(static_cast<ErrorKind>(first.front() - '0'),
              {.what = (everywhere ? "" : fmt::format("on {}: ", name_ranks(failed))) +
                       first.substr(place_end + 2),
               .where = first.substr(1, place_end - 1)});
}

}  // namespace longscan
