// Parameters lie in one buffer each, so a checkpoint reaches the other ranks in three broadcasts.
#include "launch/saved_run.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include "dist/agreement.h"
#include "io/checkpoint_folder.h"
#include "kernels/error.h"

namespace longscan {

namespace {

/// Parameters where files can be read into them and written from them: in host memory, on the CPU
/// in their own.
class HostParameters {
 public:
  explicit HostParameters(const Parameters& parameters) : parameters_(parameters) {
    if (parameters.device().on_host()) return;
    memory_ = Buffer(parameters.flat().bytes());
    parameters.device().download(memory_.data(), parameters.flat());
  }

  std::vector<Parameter> list() const {
    std::vector<Parameter> list = parameters_.list();
    for (Parameter& parameter : list) {
      parameter.tensor.data = data() + (parameter.tensor.as<std::byte>() - on_device());
    }
    return list;
  }
  std::vector<NamedTensor> named() const { return named_tensors(list()); }

  /// Collective. Those of rank 0 go to all, and to their devices.
  void broadcast(const Session& session) const {
    session.world().broadcast(data(), parameters_.flat().bytes(), 0);
    if (memory_.bytes() > 0) parameters_.upload(data());
  }

 private:
  std::byte* on_device() const { return parameters_.flat().as<std::byte>(); }
  std::byte* data() const { return memory_.bytes() > 0 ? memory_.data() : on_device(); }

  const Parameters& parameters_;
  Buffer memory_;
};

/// What rank 0 has found, on every rank.
FoundCheckpoint found_by_leader(const Session& session, const FoundCheckpoint& found) {
  const CheckpointHeader& header = found.header;
  std::array<std::int64_t, 5> numbers{header.step, header.tokens_seen, header.loader_epoch,
                                      header.loader_window, static_cast<std::int64_t>(header.seed)};
  session.world().broadcast(numbers.data(), sizeof(numbers), 0);
  return {.path = session.text_of_leader(found.path.string()),
          .header = {.step = numbers[0],
                     .tokens_seen = numbers[1],
                     .loader_epoch = numbers[2],
                     .loader_window = numbers[3],
                     .seed = static_cast<std::uint64_t>(numbers[4]),
                     .vocabulary = session.text_of_leader(header.vocabulary),
                     .data_hash = session.text_of_leader(header.data_hash),
                     .configuration = session.text_of_leader(header.configuration)}};
}

/// On rank 0.
FoundCheckpoint find_latest_in(Session& session, const std::filesystem::path& folder) {
  const LatestCheckpoint latest = find_latest(folder);
  for (const std::string& reason : latest.passed_over) {
    session.say("passed over a checkpoint: {}", reason);
  }
  return {.path = latest.path, .header = latest.header};
}

/// "0-2, 5"
std::string ranges_text(const std::set<std::int64_t>& numbers) {
  std::string text;
  for (auto next = numbers.begin(); next != numbers.end();) {
    const std::int64_t first = *next;
    std::int64_t last = first;
    while (++next != numbers.end() && *next == last + 1) ++last;
    text += fmt::format("{}{}", text.empty() ? "" : ", ", first);
    if (last > first) text += fmt::format("-{}", last);
  }
  return text;
}

/// Parameters, a line each; those that differ only in the number of their layer share one.
class ParameterLines {
 public:
  void add(const std::string& name, const std::string& rest) {
    const std::size_t digit = std::min(name.find_first_of("0123456789"), name.size());
    const char* const end = name.data() + name.size();
    std::int64_t layer = 0;
    const char* const behind = std::from_chars(name.data() + digit, end, layer).ptr;
    const Line line{name.substr(0, digit), std::string(behind, end) + ' ' + rest, {}};
    auto found = std::find_if(lines_.begin(), lines_.end(), [&](const Line& other) {
      return other.before == line.before && other.behind == line.behind;
    });
    if (found == lines_.end()) found = lines_.insert(found, line);
    if (digit < name.size()) found->layers.insert(layer);
  }
  void say(Session& session, const char* fate) const {
    for (const Line& line : lines_) {
      session.say("  {:<9}{}{}{}", fate, line.before, ranges_text(line.layers), line.behind);
    }
  }

 private:
  struct Line {
    std::string before;  ///< the number
    std::string behind;
    std::set<std::int64_t> layers;
  };
  std::vector<Line> lines_;
};

/// What of a checkpoint fits a model, and what is to be said of all parameters of both.
struct Match {
  std::vector<NamedTensor> kept;
  ParameterLines kept_lines;
  ParameterLines new_lines;
  ParameterLines dropped_lines;
};

Match match(const std::vector<StoredTensor>& stored, const std::vector<Parameter>& parameters) {
  using Shape = std::vector<std::int64_t>;
  const auto text = [](const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); };
  std::map<std::string, Shape> left;
  for (const StoredTensor& tensor : stored) left[tensor.name] = tensor.shape;
  Match match;
  for (const auto& [name, tensor] : parameters) {
    const Shape shape(tensor.shape, tensor.shape + tensor.rank);
    const auto found = left.find(name);
    if (found == left.end()) {
      match.new_lines.add(name, text(shape));
    } else if (found->second != shape) {
      match.new_lines.add(
          name, fmt::format("{}, which is {} in the checkpoint", text(shape), text(found->second)));
    } else {
      match.kept.push_back({name, tensor});
      match.kept_lines.add(name, text(shape));
    }
    left.erase(name);
  }
  for (const auto& [name, shape] : left) match.dropped_lines.add(name, text(shape));
  return match;
}

void say_removed(Session& session, const std::vector<CheckpointFile>& removed, std::int64_t step) {
  const bool is_rotation = removed.size() == 1 && removed.front().step < step;
  if (removed.empty() || is_rotation) return;
  std::vector<std::string> names;
  for (const CheckpointFile& file : removed) names.push_back(file.path.filename().string());
  session.say("removed {}, by training.keep_last: {}", counted(std::ssize(removed), "checkpoint"),
              fmt::join(names, ", "));
}

}  // namespace

FoundCheckpoint latest_checkpoint(Session& session, const std::filesystem::path& folder) {
  FoundCheckpoint found;
  on_leader(session, [&] { found = find_latest_in(session, folder); });
  return found_by_leader(session, found);
}

FoundCheckpoint find_checkpoint(Session& session, const std::filesystem::path& named) {
  FoundCheckpoint found;
  on_leader(session, [&] {
    if (!std::filesystem::is_directory(named)) {
      found = {.path = named, .header = read_checkpoint_header(named)};
      return;
    }
    found = find_latest_in(session, named);
    if (!found.path.empty()) return;
    throw Error(ErrorKind::missing, {.what = "the folder holds no checkpoint",
                                     .hint = "name a checkpoint, or the folder of a run",
                                     .where = named.string()});
  });
  return found_by_leader(session, found);
}

void load_parameters(const Session& session, const std::filesystem::path& path,
                     Parameters& parameters) {
  const HostParameters on_host(parameters);
  on_leader(session, [&] { read_checkpoint(path, on_host.named(), {}, {}, Verified::before); });
  on_host.broadcast(session);
}

void take_parameters(Session& session, const FoundCheckpoint& found, Parameters& parameters) {
  const HostParameters on_host(parameters);
  on_leader(session, [&] {
    const Match fits = match(list_parameters(found.path, Verified::before), on_host.list());
    if (fits.kept.empty()) {
      throw Error(ErrorKind::usage, {.what = "no parameter of the checkpoint fits the model",
                                     .why = "none has its name and shape there",
                                     .hint = "compare the sizes of the two models",
                                     .where = found.path.string()});
    }
    read_parameters(found.path, fits.kept, Verified::before);
    session.say("{} of {} kept from {} at step {}", fits.kept.size(),
                counted(std::ssize(parameters.list()), "parameter"), found.path.string(),
                grouped(found.header.step));
    fits.kept_lines.say(session, "kept");
    fits.new_lines.say(session, "new");
    fits.dropped_lines.say(session, "dropped");
  });
  on_host.broadcast(session);
}

void load_trainer(const Session& session, const std::filesystem::path& path, Trainer& trainer) {
  const HostParameters model(trainer.parameters());
  const HostParameters first_moment(trainer.optimizer().first_moment());
  const HostParameters second_moment(trainer.optimizer().second_moment());
  on_leader(session, [&] {
    read_checkpoint(path, model.named(), first_moment.named(), second_moment.named(),
                    Verified::before);
  });
  for (const HostParameters* parameters : {&model, &first_moment, &second_moment}) {
    parameters->broadcast(session);
  }
}

void save_trainer(Session& session, const std::filesystem::path& folder,
                  const CheckpointHeader& header, Trainer& trainer, std::int64_t keep) {
  on_leader(session, [&] {
    const HostParameters model(trainer.parameters());
    const HostParameters first_moment(trainer.optimizer().first_moment());
    const HostParameters second_moment(trainer.optimizer().second_moment());
    const std::filesystem::path path =
        write_checkpoint(folder, {.header = header,
                                  .model = model.named(),
                                  .first_moment = first_moment.named(),
                                  .second_moment = second_moment.named()});
    session.say("saved {}", path.string());
    say_removed(session, keep_last(folder, keep), header.step);
  });
}

void on_leader(const Session& session, const std::function<void()>& body) {
  on_all_ranks(session.world(), [&] {
    if (session.leads()) body();
  });
}

}  // namespace longscan
