// `longscan inspect attention`: the implicit attention matrices of one record.
#include <algorithm>
#include <cmath>
#include <optional>

#include "io/attention_file.h"
#include "kernels/error.h"
#include "launch/heat_map.h"
#include "launch/saved_run.h"
#include "launch/verbs.h"

namespace longscan {

namespace {

/// Of the numbers of a picture that are not 0, these have the darkest colour.
constexpr double kSaturated = 0.005;

struct Record {
  FastaHeader header;
  std::string letters;
};

/// A number of few enough digits, or 0.
std::int64_t number_in(const std::string& text) {
  constexpr std::size_t kMostDigits = 18;
  const bool digits = std::all_of(text.begin(), text.end(),
                                  [](char letter) { return letter >= '0' && letter <= '9'; });
  return digits && !text.empty() && text.size() <= kMostDigits ? std::stoll(text) : 0;
}

/// The record of that identifier, or else of that number; "" is the first. Whether the letters of
/// others are right does not matter.
Record find_record(FastaReader& reader, const AttentionChoice& choice, const std::string& wanted) {
  std::optional<Record> numbered;
  std::int64_t number = 0;
  const auto take = [&] { return Record{reader.header(), read_letters(reader)}; };
  while (reader.next_record()) {
    if (wanted.empty() || reader.header().identifier == wanted) return take();
    if (++number == number_in(wanted)) {
      numbered = take();
    } else {
      reader.pass_over();
    }
  }
  if (numbered.has_value()) return *numbered;
  if (number == 0) {
    throw Error(ErrorKind::data, {.what = "there is no record in it",
                                  .hint = "name a FASTA file with a protein",
                                  .where = choice.fasta});
  }
  throw Error(ErrorKind::usage,
              {.what = fmt::format("there is no record '{}'", wanted),
               .why = fmt::format("{} has {}", choice.fasta, counted(number, "record")),
               .hint = "name an identifier, or the number of a record, from 1",
               .where = "--record"});
}

void require_fits(const Record& record, const AttentionSource& source,
                  const AttentionChoice& choice) {
  if (record.letters.empty()) {
    throw Error(ErrorKind::data,
                {.what = fmt::format("the record '{}' has no letters", record.header.identifier),
                 .hint = "choose another with --record",
                 .where = record.header.where});
  }
  const std::int64_t tokens = AttentionSource::tokens_for(std::ssize(record.letters));
  if (tokens <= source.longest()) return;
  const bool chosen = source.longest() == choice.longest;
  throw Error(
      ErrorKind::data,
      {.what = fmt::format("the record '{}' makes {} tokens", record.header.identifier, tokens),
       .why = chosen ? fmt::format("at most {} are taken, since a matrix has their square",
                                   choice.longest)
                     : fmt::format("the model takes documents of at most {}", source.longest()),
       .hint = chosen ? "raise --longest" : "choose another with --record",
       .where = record.header.where});
}

AttendingRecord attending(const AttentionSource& source, const Record& record) {
  const OpenedCheckpoint& checkpoint = source.checkpoint();
  AttendingRecord result{.checkpoint = checkpoint.path.string(),
                         .step = checkpoint.header.step,
                         .identifier = record.header.identifier,
                         .description = record.header.description,
                         .sequence = record.letters,
                         .tokens = source.tokens_of(record.letters)};
  for (const std::int32_t token : result.tokens) {
    result.labels.push_back(checkpoint.vocabulary.decode(token));
  }
  return result;
}

/// Where nearly all numbers that are not 0 are below.
double high_end(std::span<const float> values) {
  std::vector<float> sizes;
  for (const float value : values) {
    if (value != 0) sizes.push_back(std::abs(value));
  }
  if (sizes.empty()) return 1;
  const auto place =
      static_cast<std::ptrdiff_t>(static_cast<double>(sizes.size()) * (1 - kSaturated));
  std::nth_element(sizes.begin(), sizes.begin() + place, sizes.end());
  return sizes[static_cast<std::size_t>(place)];
}

/// Linformer's matrices have numbers on both sides of 0.
HeatMapPanel panel_of(const std::string& title, std::span<const float> matrix, std::int64_t size,
                      std::int64_t cells) {
  const bool negative = std::any_of(matrix.begin(), matrix.end(), [](float x) { return x < 0; });
  const double high = high_end(matrix);
  return {.title = title,
          .cells = cells_of(matrix, size, cells),
          .low = negative ? -high : 0,
          .high = high,
          .palette = negative ? Palette::two_sided : Palette::one_sided};
}

/// Short enough for an axis.
std::vector<std::string> axis_labels(const AttentionSource& source,
                                     std::span<const std::int32_t> tokens) {
  const Vocabulary& vocabulary = source.checkpoint().vocabulary;
  std::vector<std::string> labels;
  for (const std::int32_t token : tokens) {
    const bool special = token >= vocabulary.pad();
    labels.push_back(!special ? vocabulary.decode(token) : token == vocabulary.begin() ? "^" : "$");
  }
  return labels;
}

}  // namespace

void InspectAttention::declare(CLI::App& app) {
  choice_.declare(app);
  app.add_option(
      "--record", record_,
      "the identifier of a record, or where no record has that, its number, from 1 (default: "
      "the first)");
  app.footer(
      "OUT.h5 has a dataset layer_<l> [heads, tokens, tokens] for each layer: the share of the "
      "value "
      "of token [column] in what token [row] gets. Rows are not negative and sum to 1, but for "
      "linformer: there a matrix is softmax(Q (E K)^T / sqrt(dim)) F, and F is learned. A record's "
      "tokens are its letters, and `begin` (or `end`, where windows hold many records) in front of "
      "them where the model predicts the next token, else `end` behind them; nothing is masked.");
}

void InspectAttention::run(Session& session) const {
  on_leader(session, [&] { choice_.require_output(); });
  AttentionSource source(session, choice_);
  on_leader(session, [&] {
    FastaReader reader = choice_.open_fasta();
    const Record record = find_record(reader, choice_, record_);
    require_fits(record, source, choice_);
    const AttendingRecord about = attending(source, record);
    const auto tokens = std::ssize(about.tokens);
    for (const std::string& notice : reader.report().notices) session.say("{}", notice);

    AttentionFile file(choice_.numbers(), about, source.heads());
    HeatMap map{
        .title = fmt::format("{}: {} at step {}", about.identifier, about.checkpoint, about.step),
        .size = tokens,
        .rows = "query (^ begin, $ end)",
        .columns = "key (^ begin, $ end)",
        .labels = axis_labels(source, about.tokens),
        .panels_across = std::ssize(source.heads())};
    const std::int64_t side = panel_side(map.panels_across, std::ssize(source.layers()));
    source.show(about.tokens, [&](std::int64_t layer, const Tensor& matrices) {
      const char* kind = name_of(source.model().attention_of(layer).kind);
      file.write_layer(layer, kind, matrices);
      for (std::size_t i = 0; i < source.heads().size(); ++i) {
        const Tensor matrix = matrices.at(static_cast<std::int64_t>(i));
        map.panels.push_back(
            panel_of(fmt::format("layer {}, head {}: {}", layer, source.heads()[i], kind),
                     {matrix.as<float>(), static_cast<std::size_t>(matrix.size())}, tokens, side));
      }
    });
    file.finish();
    session.say("wrote {}: record '{}', {}, {}", choice_.numbers(), about.identifier,
                counted(tokens, "token"),
                fmt::format("{} attention matri{}", map.panels.size(),
                            map.panels.size() == 1 ? "x" : "ces"));
    draw_heat_map(map, choice_.picture());
    session.say("wrote {}", choice_.picture());
  });
}

}  // namespace longscan
