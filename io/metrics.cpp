// A line of JSON and a TFRecord for each set of numbers.
#include "io/metrics.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <optional>
#include <string_view>

#include "io/crc32c.h"
#include "io/event.pb.h"
#include "io/host_name.h"
#include "kernels/error.h"

namespace longscan {

namespace {

constexpr std::string_view kStepKey = "{\"step\": ";

double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string json_string(std::string_view text) {
  std::string quoted = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') quoted += '\\';
    if (static_cast<unsigned char>(letter) < 0x20) {
      quoted += fmt::format("\\u{:04x}", static_cast<int>(letter));
    } else {
      quoted += letter;
    }
  }
  return quoted + '"';
}

std::string json_number(double value) {
  return std::isfinite(value) ? fmt::format("{}", value) : "null";
}

std::string json_line(std::int64_t step, double wall_time, std::span<const Metric> metrics) {
  std::string line = fmt::format("{}{}, \"wall_time\": {:.3f}", kStepKey, step, wall_time);
  for (const Metric& metric : metrics) {
    line += fmt::format(", {}: {}", json_string(metric.name), json_number(metric.value));
  }
  return line + "}\n";
}

/// The step of a line that `json_line` wrote.
std::optional<std::int64_t> step_of(std::string_view line) {
  if (!line.starts_with(kStepKey)) return std::nullopt;
  line.remove_prefix(kStepKey.size());
  std::int64_t step = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), step);
  const bool complete = error == std::errc{} && end != line.data() + line.size() && *end == ',';
  return complete ? std::optional(step) : std::nullopt;
}

/// The first step that a run from `resume_step` may write; a new run may write one about step 0.
std::int64_t first_step_behind(std::int64_t resume_step) {
  return resume_step == 0 ? 0 : resume_step + 1;
}

/// The lines of steps before `first_step`; a last line without its end is dropped.
std::string lines_before(std::string_view text, std::int64_t first_step, const std::string& file) {
  std::string kept;
  std::int64_t number = 1;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const std::string_view line = text.substr(0, end + 1);
    const std::optional<std::int64_t> step = step_of(line);
    if (!step) {
      throw Error(ErrorKind::data, {.what = "this line has no step",
                                    .why = "metrics.jsonl was not written by this program",
                                    .hint = "move it away or choose another folder",
                                    .where = fmt::format("{}:{}", file, number)});
    }
    if (*step < first_step) kept += line;
    text.remove_prefix(end + 1);
    ++number;
  }
  return kept;
}

FileDescriptor open_lines(const std::filesystem::path& folder, std::int64_t resume_step) {
  make_folder(folder);
  const std::filesystem::path path = folder / "metrics.jsonl";
  if (std::filesystem::exists(path)) {
    const std::string text = read_file(path);
    const std::string kept = lines_before(text, first_step_behind(resume_step), path.string());
    if (kept != text) write_file(path, kept);
  }
  return FileDescriptor::open_for_appending(path);
}

template <class Unsigned>
std::string little_endian(Unsigned value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

/// A record of a TFRecord file: length, checksum of the length, data, checksum of the data.
std::string record_of(const tensorboard::Event& event) {
  const std::string data = event.SerializeAsString();
  const std::string length = little_endian(std::uint64_t{data.size()});
  return length + little_endian(masked_crc32c(length)) + data + little_endian(masked_crc32c(data));
}

/// A new event file. Its name sorts behind those of earlier seconds, which is the order TensorBoard
/// reads them in.
FileDescriptor open_events(const std::filesystem::path& folder, double now) {
  const std::string base =
      fmt::format("events.out.tfevents.{:010}.{}", static_cast<std::int64_t>(now), host_name());
  std::string name = base;
  for (int again = 1; std::filesystem::exists(folder / name); ++again) {
    name = fmt::format("{}.{}", base, again);  // a resume within the same second
  }
  return FileDescriptor::create(folder / name);
}

}  // namespace

MetricsWriter::MetricsWriter(const std::filesystem::path& folder, std::int64_t resume_step)
    : lines_(open_lines(folder, resume_step)), events_(open_events(folder, seconds_since_1970())) {
  tensorboard::Event version;
  version.set_wall_time(seconds_since_1970());
  version.set_file_version("brain.Event:2");
  tensorboard::Event start;
  start.set_wall_time(version.wall_time());
  start.set_step(first_step_behind(resume_step));
  start.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  events_.write(record_of(version) + record_of(start));
}

void MetricsWriter::write(std::int64_t step, std::span<const Metric> metrics) {
  const double now = seconds_since_1970();
  tensorboard::Event event;
  event.set_wall_time(now);
  event.set_step(step);
  for (const Metric& metric : metrics) {
    tensorboard::Summary::Value& value = *event.mutable_summary()->add_value();
    value.set_tag(metric.name);
    value.set_simple_value(static_cast<float>(metric.value));
  }
  lines_.write(json_line(step, now, metrics));
  events_.write(record_of(event));
}

}  // namespace longscan
