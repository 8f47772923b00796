// Metrics files, read back as other programs would.
#include "io/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

#include "io/crc32c.h"
#include "kernels/error.h"
#include "tests/support/event_file_reader.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<std::string> lines_of(const TemporaryFolder& folder) {
  std::istringstream text(read_file(folder / "metrics.jsonl"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

std::vector<std::int64_t> steps_of(const TemporaryFolder& folder) {
  const std::string key = "{\"step\": ";
  std::vector<std::int64_t> steps;
  for (const std::string& line : lines_of(folder)) {
    EXPECT_THAT(line, StartsWith(key));
    EXPECT_THAT(line, EndsWith("}"));
    steps.push_back(std::stoll(line.substr(key.size())));
  }
  return steps;
}

/// Paths of the event files in the order of their names.
std::vector<std::filesystem::path> event_files_of(const TemporaryFolder& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    if (entry.path().filename().string().starts_with("events.out.tfevents.")) {
      files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

void write_steps(MetricsWriter& writer, std::int64_t begin, std::int64_t end) {
  for (std::int64_t step = begin; step < end; ++step) {
    writer.write(step, std::vector<Metric>{{"loss", 1.0 / static_cast<double>(step)}});
  }
}

TEST(Crc32c, GivesTheKnownAnswers) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);    // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);  // RFC 3720, B.4
  EXPECT_EQ(masked_crc32c("\x1a\x11"
                          "CRC test, one two"),
            0x5794d08au);
}

TEST(Metrics, WritesOneObjectALine) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder / "", 0);
  writer.write(10, std::vector<Metric>{{"loss", 0.1}, {"a \"name\"\n", 1e300}, {"steps", 3}});
  const std::vector<std::string> lines = lines_of(folder);
  ASSERT_EQ(lines.size(), 1u) << "the line is there as soon as write returns";
  EXPECT_THAT(lines[0], MatchesRegex(R"(\{"step": 10, "wall_time": [0-9]+\.[0-9]+, "loss": 0\.1, )"
                                     R"("a \\"name\\"\\u000a": 1e\+300, "steps": 3\})"));
}

TEST(Metrics, WritesWhatIsNoNumberAsNull) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder.path(), 0);
  writer.write(1, std::vector<Metric>{{"a", kNan}, {"b", kInfinity}, {"c", -kInfinity}});
  EXPECT_THAT(lines_of(folder).at(0), HasSubstr("\"a\": null, \"b\": null, \"c\": null}"));
  const std::vector<ReadEvent> events = read_events(read_file(event_files_of(folder).at(0)));
  ASSERT_EQ(events.size(), 3u);
  EXPECT_TRUE(std::isnan(events[2].values.at("a")));
  EXPECT_EQ(events[2].values.at("c"), -std::numeric_limits<float>::infinity());
}

TEST(Metrics, WritesEventsThatOthersCanRead) {
  const TemporaryFolder folder;
  MetricsWriter writer(folder.path(), 0);
  writer.write(7, std::vector<Metric>{{"loss", 2.5}, {"learning_rate", 1e-3}});
  writer.write(std::int64_t{1} << 40, std::vector<Metric>{{"loss", -1.0}});
  const std::vector<std::filesystem::path> files = event_files_of(folder);
  ASSERT_EQ(files.size(), 1u);
  const std::vector<ReadEvent> events = read_events(read_file(files[0]));
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].file_version, "brain.Event:2");
  EXPECT_EQ(events[2].step, 7);
  EXPECT_GT(events[2].wall_time, 1.6e9);
  EXPECT_EQ(events[2].values,
            (std::map<std::string, float>{{"loss", 2.5f}, {"learning_rate", 1e-3f}}));
  EXPECT_EQ(events[3].step, std::int64_t{1} << 40);
  EXPECT_EQ(events[3].values, (std::map<std::string, float>{{"loss", -1.0f}}));
}

TEST(Metrics, RepeatsNoStepAfterAResume) {
  const TemporaryFolder folder;
  {
    MetricsWriter writer(folder.path(), 0);
    write_steps(writer, 1, 8);
  }
  {
    MetricsWriter writer(folder.path(), 5);
    EXPECT_THAT(steps_of(folder), ElementsAre(1, 2, 3, 4, 5));
    write_steps(writer, 6, 10);
  }
  EXPECT_THAT(steps_of(folder), ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
  const std::vector<std::filesystem::path> files = event_files_of(folder);
  ASSERT_EQ(files.size(), 2u) << "a resume within the same second has a file of its own";
  const ReadEvent start = read_events(read_file(files[1])).at(1);
  EXPECT_EQ(start.session_status, 1) << "SessionLog.START makes TensorBoard drop what comes later";
  EXPECT_EQ(start.step, 6);
}

TEST(Metrics, ANewRunRepeatsNotEvenStepZero) {
  const TemporaryFolder folder;
  for (int run = 0; run < 2; ++run) {
    MetricsWriter writer(folder.path(), 0);
    EXPECT_THAT(steps_of(folder), ElementsAre());
    write_steps(writer, 0, 2);
  }
  EXPECT_THAT(steps_of(folder), ElementsAre(0, 1));
  EXPECT_EQ(read_events(read_file(event_files_of(folder).at(1))).at(1).step, 0);
}

TEST(Metrics, DropsALineThatAKilledRunLeftUnfinished) {
  const TemporaryFolder folder;
  {
    MetricsWriter writer(folder.path(), 0);
    write_steps(writer, 1, 4);
  }
  FileDescriptor::open_for_appending(folder / "metrics.jsonl").write("{\"step\": 4, \"wall_ti");
  MetricsWriter writer(folder.path(), 9);
  write_steps(writer, 10, 11);
  EXPECT_THAT(steps_of(folder), ElementsAre(1, 2, 3, 10));
}

TEST(Metrics, RefusesAFileOfSomebodyElse) {
  const TemporaryFolder folder;
  write_file(folder / "metrics.jsonl", "{\"step\": 1, \"loss\": 1}\n{\"epoch\": 3}\n");
  try {
    MetricsWriter(folder.path(), 5);
    FAIL() << "wrote into somebody else's file";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::data);
    EXPECT_THAT(error.what(), HasSubstr("metrics.jsonl:2: this line has no step"));
  }
}

}  // namespace
}  // namespace longscan
