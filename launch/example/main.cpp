// Trains a small model on a token store, over the ranks of MPI_COMM_WORLD, and saves it.
#include <cstdio>

#include "dist/mesh.h"
#include "dist/mpi_communicator.h"
#include "io/checkpoint.h"
#include "io/loader.h"
#include "model/trainer.h"

using namespace longscan;

int main(int argument_count, char** arguments) {
  const MpiEnvironment mpi(&argument_count, &arguments);
  MpiCommunicator world(MPI_COMM_WORLD);
  Mesh mesh(world, 0);  // all ranks share every line
  Device device = Device::cpu(1);

  const TokenStore store(arguments[1]);
  Loader loader(store, {.window = 1024, .batch = 2});
  const ModelOptions model{.vocabulary = store.vocabulary().size(), .width = 64, .heads = 2};
  const OptimizerOptions optimizer{.learning_rate = 3e-3, .warmup_steps = 5, .total_steps = 20};
  Trainer trainer(model, optimizer, /*seed=*/1, device, mesh);

  for (; trainer.steps() < optimizer.total_steps; loader.advance()) {
    const auto [begin, end] = part_of(loader.line_tokens(), world.rank(), world.size());
    const TokenRun run = loader.read(begin, end);
    const Shard shard{.tokens = run.tokens,
                      .targets = run.targets,
                      .positions = run.positions,
                      .document_starts = run.document_starts,
                      .first_token = run.first_token};
    const StepReport report = trainer.step({&shard, 1});
    const double loss = report.totals.loss / report.totals.tokens;
    if (world.rank() == 0) std::printf("step %ld  loss %.4f\n", trainer.steps(), loss);
  }

  if (world.rank() == 0) {
    CheckpointContents checkpoint;
    checkpoint.header.step = trainer.steps();
    checkpoint.header.vocabulary = store.vocabulary().name();
    for (const Parameter& parameter : trainer.parameters().list()) {
      checkpoint.model.push_back({parameter.name, parameter.tensor});
    }
    std::printf("saved %s\n", write_checkpoint("example-run", checkpoint).c_str());
  }
}
