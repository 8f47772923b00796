// Parameters lie in one buffer each, so a checkpoint reaches the other ranks in three broadcasts.
#include "launch/saved_run.h"

#include <array>

#include "dist/agreement.h"
#include "io/checkpoint_folder.h"
#include "kernels/error.h"

namespace longscan {

namespace {

std::vector<NamedTensor> named(const Parameters& parameters) {
  std::vector<NamedTensor> tensors;
  for (const Parameter& parameter : parameters.list()) {
    tensors.push_back({parameter.name, parameter.tensor});
  }
  return tensors;
}

void broadcast(const Session& session, const Parameters& parameters) {
  session.world().broadcast(parameters.flat().data, parameters.flat().bytes(), 0);
}

}  // namespace

CheckpointHeader read_header(const Session& session, const std::filesystem::path& path) {
  CheckpointHeader header;
  on_leader(session, [&] { header = read_checkpoint_header(path); });
  std::array<std::int64_t, 5> numbers{header.step, header.tokens_seen, header.loader_epoch,
                                      header.loader_window, static_cast<std::int64_t>(header.seed)};
  session.world().broadcast(numbers.data(), sizeof(numbers), 0);
  return {.step = numbers[0],
          .tokens_seen = numbers[1],
          .loader_epoch = numbers[2],
          .loader_window = numbers[3],
          .seed = static_cast<std::uint64_t>(numbers[4]),
          .vocabulary = session.text_of_leader(header.vocabulary),
          .data_hash = session.text_of_leader(header.data_hash),
          .configuration = session.text_of_leader(header.configuration)};
}

void load_parameters(const Session& session, const std::filesystem::path& path,
                     Parameters& parameters) {
  on_leader(session, [&] { read_checkpoint(path, named(parameters)); });
  broadcast(session, parameters);
}

void load_trainer(const Session& session, const std::filesystem::path& path, Trainer& trainer) {
  Parameters& first_moment = trainer.optimizer().first_moment();
  Parameters& second_moment = trainer.optimizer().second_moment();
  on_leader(session, [&] {
    read_checkpoint(path, named(trainer.parameters()), named(first_moment), named(second_moment));
  });
  for (const Parameters* parameters : {&trainer.parameters(), &first_moment, &second_moment}) {
    broadcast(session, *parameters);
  }
}

std::filesystem::path save_trainer(const Session& session, const std::filesystem::path& folder,
                                   const CheckpointHeader& header, Trainer& trainer,
                                   std::int64_t keep) {
  std::filesystem::path path;
  on_leader(session, [&] {
    path = write_checkpoint(folder, {.header = header,
                                     .model = named(trainer.parameters()),
                                     .first_moment = named(trainer.optimizer().first_moment()),
                                     .second_moment = named(trainer.optimizer().second_moment())});
    keep_last(folder, keep);
  });
  return session.text_of_leader(path.string());
}

void on_leader(const Session& session, const std::function<void()>& body) {
  on_all_ranks(session.world(), [&] {
    if (session.leads()) body();
  });
}

std::filesystem::path latest_checkpoint(Session& session, const std::filesystem::path& folder) {
  std::string found;
  on_leader(session, [&] {
    const LatestCheckpoint latest = find_latest(folder);
    for (const std::string& reason : latest.passed_over) {
      session.say("passed over a checkpoint: {}", reason);
    }
    found = latest.path.string();
  });
  return session.text_of_leader(found);
}

std::filesystem::path find_checkpoint(Session& session, const std::filesystem::path& named) {
  bool is_folder = false;
  on_leader(session, [&] { is_folder = std::filesystem::is_directory(named); });
  if (!any_rank(session.world(), is_folder)) return named;
  const std::filesystem::path path = latest_checkpoint(session, named);
  if (!path.empty()) return path;
  throw Error(ErrorKind::missing, {.what = "the folder holds no checkpoint",
                                   .why = "",
                                   .hint = "name a checkpoint, or the folder of a run",
                                   .where = named.string()});
}

}  // namespace longscan
