// SHA-256 against the known answers of FIPS 180-2, whole and in pieces.
#include "io/sha256.h"

#include <gtest/gtest.h>

#include "io/atomic_file.h"
#include "kernels/error.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

constexpr const char* kAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

TEST(Sha256, GivesTheKnownAnswers) {
  EXPECT_EQ(sha256_of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_of("abc"), kAbc);
  EXPECT_EQ(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_of(std::string(1'000'000, 'a')), kMillionA);
}

TEST(Sha256, DoesNotDependOnTheCutsBetweenPieces) {
  Sha256 sha256;
  const std::string text(1'000'000, 'a');
  std::size_t begin = 0;
  for (std::size_t piece = 1; begin < text.size(); piece = piece * 3 % 997 + 1) {
    sha256.update(std::string_view(text).substr(begin, piece));
    begin += piece;
  }
  EXPECT_EQ(sha256.hex_digest(), kMillionA);
}

TEST(Sha256, ReadsWholeFilesOfAnySize) {
  const TemporaryFolder folder;
  write_file(folder / "abc", "abc");
  EXPECT_EQ(sha256_of_file(folder / "abc"), kAbc);
  const std::string large((3 << 20) + 1, 'x');
  write_file(folder / "large", large);
  EXPECT_EQ(sha256_of_file(folder / "large"), sha256_of(large));
}

TEST(Sha256, NamesAFileThatIsNotThere) {
  const TemporaryFolder folder;
  try {
    sha256_of_file(folder / "nothing");
    FAIL() << "a missing file was hashed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::missing);
    EXPECT_NE(std::string(error.what()).find("nothing"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace longscan
