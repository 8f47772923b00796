// What somebody may have meant who misspelt a name.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace longscan {

/// Insertions, deletions, replacements and swaps of neighbours that turn one name into the other
/// (optimal string alignment). Case does not count, nor does `-` against `_`.
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The nearest of `names` when it is near enough to be a slip of the hand, else an empty text.
std::string nearest_name(std::string_view name, std::span<const std::string> names);

/// "did you mean 'width'?", or "choose among 'width', 'heads'" when nothing is near.
std::string suggestion(std::string_view name, std::span<const std::string> names);

}  // namespace longscan
