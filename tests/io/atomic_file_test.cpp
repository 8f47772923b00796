// Files that are there as a whole or not at all.
#include "io/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/error.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(AtomicFile, KeepsTheOldContentsUntilPublished) {
  const TemporaryFolder folder;
  write_file(folder / "name", "old");
  {
    AtomicFile file(folder / "name");
    FileDescriptor::create(file.temporary()).write("new");
    EXPECT_EQ(read_file(folder / "name"), "old");
    file.publish();
    EXPECT_EQ(read_file(folder / "name"), "new");
  }
  EXPECT_EQ(read_file(folder / "name"), "new");
  EXPECT_FALSE(std::filesystem::exists(folder / "name.partial"));
}

TEST(AtomicFile, LeavesNothingBehindWhenItIsGivenUp) {
  const TemporaryFolder folder;
  {
    AtomicFile file(folder / "name");
    FileDescriptor::create(file.temporary()).write("half");
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(AtomicFile, OverwritesWhatAKilledWriterLeft) {
  const TemporaryFolder folder;
  FileDescriptor::create(folder / "name.partial").write("a long half-written line");
  write_file(folder / "name", "short");
  EXPECT_EQ(read_file(folder / "name"), "short");
  EXPECT_FALSE(std::filesystem::exists(folder / "name.partial"));
}

TEST(AtomicFile, SaysWhichFolderCannotBeWrittenAndWhy) {
  const TemporaryFolder folder;
  write_file(folder / "file", "not a folder");
  try {
    write_file(folder / "file" / "name", "text");
    FAIL() << "wrote into a file";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::io);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("file/name.partial"), HasSubstr("cannot write"),
                                    HasSubstr("Not a directory")));
  }
  EXPECT_THROW(make_folder(folder / "file" / "below"), Error);
}

TEST(AtomicFile, SaysWhichFileIsMissing) {
  const TemporaryFolder folder;
  try {
    read_file(folder / "nothing");
    FAIL() << "read a missing file";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::missing);
    EXPECT_THAT(error.what(), HasSubstr("nothing: there is no such file"));
  }
}

TEST(FileDescriptor, AppendsAndRefusesToCreateTwice) {
  const TemporaryFolder folder;
  FileDescriptor::open_for_appending(folder / "log").write("one\n");
  FileDescriptor::open_for_appending(folder / "log").write("two\n");
  EXPECT_EQ(read_file(folder / "log"), "one\ntwo\n");
  EXPECT_THROW(FileDescriptor::create(folder / "log"), Error);
}

}  // namespace
}  // namespace longscan
