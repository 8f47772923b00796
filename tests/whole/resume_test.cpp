// 2 n steps are n steps, a checkpoint, and n steps: bit by bit on the same ranks, over the end of
// an epoch, and to rounding on any others.
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "dist/thread_communicator.h"
#include "io/checkpoint.h"
#include "io/loader.h"
#include "model/trainer.h"
#include "tests/support/temporary_folder.h"

namespace longscan {
namespace {

constexpr std::int64_t kSteps = 5;  // n; windows of an epoch are used up in between
constexpr std::int64_t kSegment = 23;

std::vector<NamedTensor> named(const Parameters& parameters) {
  return named_tensors(parameters.list());
}

class Resume : public testing::Test {
 protected:
  Resume() : store_(make_store()) {}

  /// All parameters after training up to step `last`, from the checkpoint `from` where it is not
  /// empty; saves in `to` where that is not empty.
  std::vector<double> train(int ranks, std::int64_t last, const std::filesystem::path& from,
                            const std::filesystem::path& to) {
    std::vector<double> result;
    run_ranks(ranks, [&](Communicator& world) {
      Mesh mesh(world, 0);
      Device device = Device::cpu(1);
      Trainer trainer(model(),
                      {.learning_rate = 0.01, .warmup_steps = 3, .total_steps = 2 * kSteps}, 7,
                      device, mesh);
      LoaderState state;
      if (!from.empty()) state = load(from, trainer);
      Loader loader(store_, {.window = 40, .batch = 2, .seed = 7}, state);
      for (; trainer.steps() < last; loader.advance()) step(loader, trainer, world);
      if (world.rank() != 0) return;
      if (!to.empty()) save(to, trainer, loader.state());
      const Tensor flat = trainer.parameters().flat();
      result.assign(flat.as<double>(), flat.as<double>() + flat.size());
    });
    return result;
  }

  TemporaryFolder folder_;

 private:
  TokenStore make_store() {
    const Vocabulary vocabulary = Vocabulary::protein();
    TokenStoreWriter writer(folder_ / "store.h5", vocabulary);
    for (std::uint64_t record = 0; record < 12; ++record) {
      std::string letters;
      for (std::uint64_t i = 0; i < 20 + 3 * record; ++i) {
        const RandomWords words = random_words({3, RandomPurpose::sample, record}, i);
        letters += vocabulary.letters()[words[0] % 20];
      }
      writer.append(Split::train, letters);
      writer.end_record(Split::train, "record", "");
    }
    writer.finish({});
    return TokenStore(folder_ / "store.h5");
  }

  ModelOptions model() const {
    return {.vocabulary = store_.vocabulary().size(),
            .width = 12,
            .layers = 2,
            .heads = 2,
            .hidden = 20,
            .dropout = 0.1,
            .dtype = DType::f64};
  }

  static void step(const Loader& loader, Trainer& trainer, const Communicator& world) {
    std::vector<TokenRun> runs;
    for (std::int64_t begin = 0; begin < loader.line_tokens(); begin += kSegment) {
      const std::int64_t length = std::min(kSegment, loader.line_tokens() - begin);
      const auto [mine, behind] = part_of(length, world.rank(), world.size());
      runs.push_back(loader.read(begin + mine, begin + behind));
    }
    std::vector<Shard> shards;
    for (const TokenRun& run : runs) {
      shards.push_back({.tokens = run.tokens,
                        .targets = run.targets,
                        .positions = run.positions,
                        .document_starts = run.document_starts,
                        .first_token = run.first_token});
    }
    trainer.step(shards);
  }

  static void save(const std::filesystem::path& folder, Trainer& trainer, LoaderState state) {
    write_checkpoint(folder, {.header = {.step = trainer.steps(),
                                         .loader_epoch = state.epoch,
                                         .loader_window = state.window},
                              .model = named(trainer.parameters()),
                              .first_moment = named(trainer.optimizer().first_moment()),
                              .second_moment = named(trainer.optimizer().second_moment())});
  }

  static LoaderState load(const std::filesystem::path& folder, Trainer& trainer) {
    const std::filesystem::path path = folder / "step-00000005.h5";
    const CheckpointHeader header = read_checkpoint_header(path);
    read_checkpoint(path, named(trainer.parameters()), named(trainer.optimizer().first_moment()),
                    named(trainer.optimizer().second_moment()));
    trainer.resume_at(header.step, header.step);
    return {.epoch = header.loader_epoch, .window = header.loader_window};
  }

  TokenStore store_;
};

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

TEST_F(Resume, IsBitwiseOnTheSameRanksOverTheEndOfAnEpoch) {
  for (const int ranks : {1, 2, 3}) {
    const std::filesystem::path half = folder_ / ("half" + std::to_string(ranks));
    const std::vector<double> whole = train(ranks, 2 * kSteps, {}, {});
    const std::vector<double> first = train(ranks, kSteps, {}, half);
    EXPECT_EQ(read_checkpoint_header(half / "step-00000005.h5").loader_epoch, 0);
    EXPECT_EQ(train(ranks, 2 * kSteps, half, folder_ / "end"), whole);
    EXPECT_EQ(read_checkpoint_header(folder_ / "end/step-00000010.h5").loader_epoch, 1);
    EXPECT_GT(largest_difference(first, whole), 1e-3) << "the second half does nothing";
  }
}

TEST_F(Resume, IsTheSameToRoundingOnAnyOtherRanks) {
  const std::vector<double> whole = train(1, 2 * kSteps, {}, {});
  for (const int before : {1, 2, 3, 4}) {
    const std::filesystem::path half = folder_ / ("half" + std::to_string(before));
    train(before, kSteps, {}, half);
    for (const int after : {1, 2, 3, 4}) {
      EXPECT_LT(largest_difference(train(after, 2 * kSteps, half, {}), whole), 1e-9)
          << before << " -> " << after;
    }
  }
}

}  // namespace
}  // namespace longscan
