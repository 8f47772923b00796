// The three parts of a corpus.
#pragma once

#include <array>

namespace longscan {

enum class Split { train, validation, test };

inline constexpr std::array<Split, 3> kSplits = {Split::train, Split::validation, Split::test};

/// "train", "validation", "test": also the names of their folders and groups.
constexpr const char* name_of(Split split) {
  switch (split) {
    case Split::train:
      return "train";
    case Split::validation:
      return "validation";
    case Split::test:
      return "test";
  }
  return "";
}

}  // namespace longscan
