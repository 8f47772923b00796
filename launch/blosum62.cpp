// The published table, in the order in which it is printed everywhere.
#include "launch/blosum62.h"

#include <algorithm>
#include <iterator>

#include "kernels/tensor.h"

namespace longscan {

namespace {

constexpr std::string_view kPrinted = "ARNDCQEGHILKMFPSTWYV";

// The lower triangle, row after row, is all of it.
// clang-format off
constexpr int kScores[] = {
   4,
  -1,  5,
  -2,  0,  6,
  -2, -2,  1,  6,
   0, -3, -3, -3,  9,
  -1,  1,  0,  0, -3,  5,
  -1,  0,  0,  2, -4,  2,  5,
   0, -2,  0, -1, -3, -2, -2,  6,
  -2,  0,  1, -1, -3,  0,  0, -2,  8,
  -1, -3, -3, -3, -1, -3, -3, -4, -3,  4,
  -1, -2, -3, -4, -1, -2, -3, -4, -3,  2,  4,
  -1,  2,  0, -1, -3,  1,  1, -2, -1, -3, -2,  5,
  -1, -1, -2, -3, -1,  0, -2, -3, -2,  1,  2, -1,  5,
  -2, -3, -3, -3, -2, -3, -3, -3, -1,  0,  0, -3,  0,  6,
  -1, -2, -2, -1, -3, -1, -1, -2, -2, -3, -3, -1, -2, -4,  7,
   1, -1,  1,  0, -1,  0,  0,  0, -1, -2, -2,  0, -1, -2, -1,  4,
   0, -1,  0, -1, -1, -1, -1, -2, -2, -1, -1, -1, -1, -2, -1,  1,  5,
  -3, -3, -4, -4, -2, -2, -3, -2, -2, -3, -2, -3, -1,  1, -4, -3, -2, 11,
  -2, -2, -2, -3, -2, -1, -2, -3,  2, -1, -1, -2, -1,  3, -3, -2, -2,  2,  7,
   0, -3, -3, -3, -1, -2, -2, -3, -3,  3,  1, -2,  1, -1, -2, -2,  0, -3, -1,  4,
};
// clang-format on
static_assert(std::size(kScores) == kPrinted.size() * (kPrinted.size() + 1) / 2);

}  // namespace

int blosum62(char a, char b) {
  const std::size_t first = kPrinted.find(a);
  const std::size_t second = kPrinted.find(b);
  require(first < kPrinted.size() && second < kPrinted.size(), "blosum62", "has 20 amino acids");
  const std::size_t row = std::max(first, second);
  return kScores[row * (row + 1) / 2 + std::min(first, second)];
}

std::vector<double> blosum62_matrix() {
  std::vector<double> matrix;
  for (const char a : kAminoAcids) {
    for (const char b : kAminoAcids) matrix.push_back(blosum62(a, b));
  }
  return matrix;
}

}  // namespace longscan
