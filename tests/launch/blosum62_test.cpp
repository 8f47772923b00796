// BLOSUM62 as it is published.
#include "launch/blosum62.h"

#include <gtest/gtest.h>

#include "io/vocabulary.h"
#include "tests/support/input_files.h"

namespace longscan {
namespace {

TEST(Blosum62, HasThePublishedDiagonal) {
  const std::string letters = "ARNDCQEGHILKMFPSTWYV";
  const int scores[] = {4, 5, 6, 6, 9, 5, 5, 6, 8, 4, 4, 5, 5, 6, 7, 4, 5, 11, 7, 4};
  for (std::size_t i = 0; i < letters.size(); ++i) {
    EXPECT_EQ(blosum62(letters[i], letters[i]), scores[i]) << letters[i];
  }
}

TEST(Blosum62, HasPublishedValues) {
  struct Entry {
    char a;
    char b;
    int score;
  };
  for (const Entry& entry :
       {Entry{'D', 'E', 2}, {'F', 'Y', 3},  {'I', 'V', 3},  {'W', 'Y', 2},  {'K', 'R', 2},
        {'H', 'Y', 2},      {'L', 'M', 2},  {'I', 'L', 2},  {'E', 'Q', 2},  {'F', 'W', 1},
        {'S', 'T', 1},      {'A', 'S', 1},  {'D', 'N', 1},  {'C', 'E', -4}, {'D', 'W', -4},
        {'N', 'W', -4},     {'P', 'W', -4}, {'F', 'P', -4}, {'G', 'L', -4}, {'G', 'I', -4},
        {'D', 'L', -4},     {'A', 'V', 0},  {'A', 'C', 0},  {'Q', 'K', 1}}) {
    EXPECT_EQ(blosum62(entry.a, entry.b), entry.score) << entry.a << entry.b;
  }
}

TEST(Blosum62, IsSymmetricAndNowhereMoreThanOnItsDiagonal) {
  int sum = 0;
  for (const char a : kAminoAcids) {
    for (const char b : kAminoAcids) {
      EXPECT_EQ(blosum62(a, b), blosum62(b, a)) << a << b;
      if (a != b) {
        EXPECT_LT(blosum62(a, b), blosum62(a, a)) << a << b;
      }
      EXPECT_GE(blosum62(a, b), -4);
      sum += blosum62(a, b);
    }
  }
  EXPECT_EQ(sum, -426);
}

TEST(Blosum62, AsAMatrixIsInTheOrderOfTheTokens) {
  const Vocabulary vocabulary = Vocabulary::protein();
  const std::vector<double> matrix = blosum62_matrix();
  ASSERT_EQ(matrix.size(), 400U);
  for (const char a : kAminoAcids) {
    for (const char b : kAminoAcids) {
      EXPECT_EQ(matrix[static_cast<std::size_t>(vocabulary.encode(a) * 20 + vocabulary.encode(b))],
                blosum62(a, b));
    }
  }
}

TEST(Blosum62, KnowsTwentyAminoAcids) {
  message_of(ErrorKind::internal, [] { static_cast<void>(blosum62('A', 'X')); });
  message_of(ErrorKind::internal, [] { static_cast<void>(blosum62('-', 'A')); });
}

}  // namespace
}  // namespace longscan
