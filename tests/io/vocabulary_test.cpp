// Letters to tokens and back.
#include "io/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/input_files.h"

namespace longscan {
namespace {

using testing::HasSubstr;

TEST(Vocabulary, ProteinHasTwentyAminoAcidsThenTheAmbiguousLettersThenFourSpecialTokens) {
  const Vocabulary vocabulary = Vocabulary::protein();
  EXPECT_EQ(vocabulary.size(), 30);
  EXPECT_EQ(vocabulary.letters(), "ACDEFGHIKLMNPQRSTVWYBJOUXZ");
  EXPECT_EQ(vocabulary.encode('A'), 0);
  EXPECT_EQ(vocabulary.encode('Y'), 19);
  EXPECT_EQ(vocabulary.encode('X'), 24);
  EXPECT_EQ(vocabulary.encode('a'), -1);
  EXPECT_EQ(vocabulary.encode('-'), -1);
  EXPECT_EQ(vocabulary.encode('\xff'), -1);
  EXPECT_EQ(vocabulary.pad(), 26);
  EXPECT_EQ(vocabulary.begin(), 27);
  EXPECT_EQ(vocabulary.end(), 28);
  EXPECT_EQ(vocabulary.mask(), 29);
}

TEST(Vocabulary, BytesAreTheirOwnTokens) {
  const Vocabulary vocabulary = Vocabulary::bytes();
  EXPECT_EQ(vocabulary.size(), 260);
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(vocabulary.encode(static_cast<char>(byte)), byte);
    EXPECT_EQ(vocabulary.decode(byte), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(vocabulary.end(), 258);
}

TEST(Vocabulary, DecodesLettersAndNamesSpecialTokens) {
  const Vocabulary vocabulary = Vocabulary::named("protein");
  for (std::int32_t token = 0; token < 26; ++token) {
    EXPECT_EQ(vocabulary.encode(vocabulary.decode(token)[0]), token);
  }
  const std::int32_t tokens[] = {27, 10, 20, 29, 28, 26};
  EXPECT_EQ(vocabulary.decode(tokens), "<begin>MB<mask><end><pad>");
}

TEST(Vocabulary, RefusesTokensAndNamesThatItDoesNotHave) {
  EXPECT_THAT(message_of(ErrorKind::internal, [] { Vocabulary::protein().decode(30); }),
              HasSubstr("token 30 is not in the vocabulary 'protein', it has 30 tokens"));
  EXPECT_THAT(message_of(ErrorKind::internal, [] { Vocabulary::protein().decode(-1); }),
              HasSubstr("token -1"));
  EXPECT_THAT(message_of(ErrorKind::usage, [] { Vocabulary::named("dna"); }),
              HasSubstr("there is no vocabulary 'dna', there are 'protein' and 'bytes'"));
}

}  // namespace
}  // namespace longscan
