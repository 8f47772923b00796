// `longscan generate`: samples are shared out over the ranks and printed in order.
#include <algorithm>
#include <optional>

#include "dist/agreement.h"
#include "io/atomic_file.h"
#include "kernels/error.h"
#include "launch/opened.h"
#include "launch/saved_run.h"
#include "launch/settings.h"
#include "launch/verbs.h"

namespace longscan {

namespace {

constexpr std::size_t kLineLetters = 60;

/// A text is written from its beginning to its end.
void require_writer(const OpenedCheckpoint& checkpoint) {
  const auto refuse = [&](const char* what, const char* why) {
    throw Error(ErrorKind::usage, {.what = what,
                                   .why = why,
                                   .hint = "train a model with model.causal=true and "
                                           "training.objective=next_token to generate",
                                   .where = checkpoint.path.string()});
  };
  if (!checkpoint.configuration.model().causal()) {
    refuse("the model is bidirectional",
           "each of its tokens sees those that follow, which are not there yet");
  }
  if (checkpoint.configuration.training().objective() != config::Training::next_token) {
    refuse("the model has learned to predict masked tokens",
           "it does not know which token comes next");
  }
}

std::vector<std::int32_t> prompt_tokens(const OpenedCheckpoint& checkpoint,
                                        const std::string& prompt) {
  std::vector<std::int32_t> tokens{opening(checkpoint)};
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    const std::int32_t token = checkpoint.vocabulary.encode(prompt[i]);
    if (token < 0) {
      throw Error(ErrorKind::usage, {.what = fmt::format("'{}' has no token", prompt[i]),
                                     .why = fmt::format("the vocabulary '{}' has the letters {}",
                                                        checkpoint.vocabulary.name(),
                                                        checkpoint.vocabulary.letters()),
                                     .where = fmt::format("--prompt:1:{}", i + 1)});
    }
    tokens.push_back(token);
  }
  return tokens;
}

/// A table of learned positions has an end.
void require_room(const OpenedCheckpoint& checkpoint, std::int64_t tokens) {
  const std::int64_t window = checkpoint.configuration.data().window();
  if (checkpoint.configuration.model().positions() != config::Model::learned) return;
  if (tokens <= window) return;
  throw Error(ErrorKind::usage,
              {.what = fmt::format("prompt and sample may take {} tokens", tokens),
               .why = fmt::format("the model has learned {} positions", window),
               .hint = "lower --max-tokens",
               .where = checkpoint.path.string()});
}

std::string fasta_of(std::int64_t sample, const std::string& letters,
                     const SamplingOptions& sampling) {
  std::string text = fmt::format(">sample_{} length={} temperature={} top_k={} top_p={} seed={}\n",
                                 sample, letters.size(), sampling.temperature, sampling.top_k,
                                 sampling.top_p, sampling.seed);
  for (std::size_t begin = 0; begin < letters.size(); begin += kLineLetters) {
    text += letters.substr(begin, kLineLetters) + "\n";
  }
  return text;
}

std::string text_of(std::int64_t sample, std::int64_t samples, const std::string& letters) {
  if (samples == 1) return letters + "\n";
  return fmt::format("--- sample {} ---\n{}\n", sample, letters);
}

}  // namespace

void Generate::declare(CLI::App& app) {
  app.add_option("--checkpoint", checkpoint_, "a checkpoint, or a run's folder for its latest")
      ->required();
  app.add_option("--prompt", prompt_, "what the samples begin with");
  app.add_option("--temperature", sampling_.temperature, "0: always the most likely token")
      ->capture_default_str();
  app.add_option("--top-k", sampling_.top_k, "draw among the k most likely tokens; 0: all")
      ->capture_default_str();
  app.add_option("--top-p", sampling_.top_p,
                 "draw among the most likely tokens that together have this probability")
      ->capture_default_str();
  app.add_option("--seed", sampling_.seed, "of the random numbers")->capture_default_str();
  app.add_option("-n,--samples", samples_, "how many")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--max-tokens", longest_, "longest sample, the prompt not counted")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--out", output_, "write the samples to this file instead of printing them");
  device_.declare(app);
}

void Generate::run(Session& session) const {
  const OpenedCheckpoint checkpoint = open_checkpoint(session, checkpoint_);
  require_writer(checkpoint);
  const Vocabulary& vocabulary = checkpoint.vocabulary;
  const bool protein = vocabulary.name() == "protein";
  std::string letters = prompt_;
  if (protein) {
    std::transform(letters.begin(), letters.end(), letters.begin(),
                   [](unsigned char letter) { return std::toupper(letter); });
  }
  const std::vector<std::int32_t> prompt = prompt_tokens(checkpoint, letters);
  require_room(checkpoint, std::ssize(prompt) + longest_);
  SamplingOptions sampling = sampling_;
  sampling.banned = {vocabulary.pad(), vocabulary.begin(), vocabulary.mask()};
  check(sampling);

  RankDevice computes(session, device_);
  const ModelOptions model = model_of(checkpoint, device_.dtype());
  const Parameters parameters = load_model(session, checkpoint, model, computes.device());
  const std::unique_ptr<Communicator> alone = session.world().split(session.rank());
  Transformer transformer(model, computes.device(), *alone);
  transformer.draw_features(checkpoint.header.seed, checkpoint.header.step);
  Generator generator(transformer, parameters.weights());

  std::string all;
  for (std::int64_t first = 0; first < samples_; first += session.ranks()) {
    const std::int64_t sample = first + session.rank();
    std::string mine;
    if (sample < samples_) {
      const std::vector<std::int32_t> tokens = generator.generate(
          prompt, vocabulary.end(), longest_, sampling, static_cast<std::uint64_t>(sample));
      const std::string sequence = letters + vocabulary.decode(tokens);
      mine = protein ? fasta_of(sample + 1, sequence, sampling)
                     : text_of(sample + 1, samples_, sequence);
    }
    for (const std::string& text : gather_texts(session.world(), mine)) {
      if (output_.empty() && !text.empty()) session.say("{}", text.substr(0, text.size() - 1));
      all += text;
    }
  }
  if (output_.empty()) return;
  on_leader(session, [&] { write_file(output_, all); });
  session.say("wrote {} to {}", counted(samples_, "sample"), output_);
}

}  // namespace longscan
