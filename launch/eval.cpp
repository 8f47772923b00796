// `longscan eval`: a checkpoint on a split, beside what letter frequencies alone predict.
#include <optional>

#include "dist/agreement.h"
#include "dist/mesh.h"
#include "kernels/error.h"
#include "launch/evaluation.h"
#include "launch/opened.h"
#include "launch/settings.h"
#include "launch/verbs.h"

namespace longscan {

namespace {

void require_fits(const OpenedCheckpoint& checkpoint, const TokenStore& store, Split split) {
  const std::string path = store.path().string();
  if (store.vocabulary().name() != checkpoint.vocabulary.name()) {
    throw Error(
        ErrorKind::usage,
        {.what = fmt::format("the token store's vocabulary is '{}'", store.vocabulary().name()),
         .why = fmt::format("the checkpoint's is '{}'", checkpoint.vocabulary.name()),
         .hint = "name another token store with --data",
         .where = path});
  }
  if (store.tokens(split) > 0) return;
  throw Error(ErrorKind::data, {.what = fmt::format("the split '{}' is empty", name_of(split)),
                                .why = "the corpus has no records for it",
                                .hint = "choose another with --split",
                                .where = path});
}

void require_targets(const Evaluation& evaluation, const TokenStore& store) {
  if (evaluation.totals.tokens > 0) return;
  throw Error(ErrorKind::data, {.what = "there is nothing to predict",
                                .why = "no token of the windows evaluated is masked",
                                .hint = "evaluate more with --windows",
                                .where = store.path().string()});
}

}  // namespace

void Evaluate::declare(CLI::App& app) {
  app.add_option("--checkpoint", checkpoint_, "a checkpoint, or a run's folder for its latest")
      ->required();
  app.add_option("--data", data_, "a token store (default: the one it was trained on)");
  app.add_option("--split", split_, "train, validation or test")->capture_default_str();
  app.add_option("--windows", windows_, "evaluate only the first windows; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--sequence", sequence_, "ranks that share a line; 0: all")
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  device_.declare(app);
}

void Evaluate::run(Session& session) const {
  const Split split = split_named(split_);
  const OpenedCheckpoint checkpoint = open_checkpoint(session, checkpoint_);
  std::optional<TokenStore> store;
  on_all_ranks(session.world(), [&] {
    store = open_store(data_.empty() ? checkpoint.configuration.data().store() : data_);
  });
  // The checkpoint is what rank 0 has read of it; the store every rank opens for itself.
  const Claim data{"the data", fmt::format("{:.12}", store->content_hash())};
  require_agreement(session.world(), {&data, 1});
  require_fits(checkpoint, *store, split);
  RankDevice computes(session, device_);
  Mesh mesh(computes.world(), static_cast<int>(sequence_));
  const ModelOptions model = model_of(checkpoint, device_.dtype());
  const Parameters parameters = load_model(session, checkpoint, model, computes.device());
  Transformer transformer(model, computes.device(), mesh.sequence());
  transformer.draw_features(checkpoint.header.seed, checkpoint.header.step);
  const Evaluation evaluation = evaluate(transformer, parameters.weights(), mesh, *store,
                                         evaluation_options(checkpoint.configuration, split),
                                         windows_, checkpoint.configuration.training().segment());
  require_targets(evaluation, *store);
  session.say("{} at step {} on '{}' of {}", checkpoint.path.string(),
              grouped(checkpoint.header.step), split_, store->path().string());
  const bool masked =
      checkpoint.configuration.training().objective() == config::Training::masked_token;
  session.say("{:<24}{:>12}", masked ? "masked tokens" : "tokens",
              grouped(static_cast<std::int64_t>(evaluation.totals.tokens)));
  session.say("{:<24}{:>12.4f}", "loss", evaluation.loss());
  session.say("{:<24}{:>12.4f}", "perplexity", evaluation.perplexity());
  session.say("{:<24}{:>12.4f}", "unigram baseline", evaluation.unigram_perplexity());
  session.say("{:<24}{:>10.2f} %", "accuracy", 100 * evaluation.accuracy());
  if (checkpoint.vocabulary.name() == "bytes" && !masked) {
    session.say("{:<24}{:>12.4f}", "bits per byte", evaluation.bits_per_letter());
  }
}

}  // namespace longscan
