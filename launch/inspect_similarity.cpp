// `longscan inspect similarity`: attention by pair of amino acids, beside what evolution swaps.
#include <algorithm>
#include <cmath>

#include "dist/gradient_sum.h"
#include "io/attention_file.h"
#include "kernels/error.h"
#include "launch/blosum62.h"
#include "launch/heat_map.h"
#include "launch/saved_run.h"
#include "launch/token_store_report.h"
#include "launch/verbs.h"
#include "model/token_similarity.h"

namespace longscan {

namespace {

constexpr auto kKinds = static_cast<std::int64_t>(kAminoAcids.size());
constexpr std::size_t kMostSimilar = 10;  // pairs that are told
constexpr double kLeastReach = 1e-3;      // of a scale around its middle

void require_proteins(const OpenedCheckpoint& checkpoint) {
  if (checkpoint.vocabulary.name() == "protein") return;
  throw Error(ErrorKind::usage, {.what = fmt::format("the checkpoint's vocabulary is '{}'",
                                                     checkpoint.vocabulary.name()),
                                 .why = "similarities are those of amino acids",
                                 .hint = "name a checkpoint that was trained on proteins",
                                 .where = checkpoint.path.string()});
}

/// Rank 0 reads; the letters of the records on every rank. Longer ones are left out.
std::vector<std::string> read_records(Session& session, const AttentionSource& source,
                                      const AttentionChoice& choice, std::int64_t most) {
  std::string lines;
  on_leader(session, [&] {
    FastaReader reader = choice.open_fasta();
    std::int64_t taken = 0;
    std::int64_t longer = 0;
    while ((most == 0 || taken < most) && reader.next_record()) {
      const std::string letters = read_letters(reader);
      if (letters.empty()) continue;  // the reader counts it
      if (AttentionSource::tokens_for(std::ssize(letters)) > source.longest()) {
        ++longer;
        continue;
      }
      lines += letters + '\n';
      ++taken;
    }
    say_reading(session, reader.report());
    if (longer > 0) {
      session.say("  {:>12}  records of more than {} tokens left out", grouped(longer),
                  grouped(source.longest()));
    }
    if (taken > 0) return;
    throw Error(ErrorKind::data,
                {.what = "there is no record in it that can be taken",
                 .hint = longer > 0 ? "raise --longest, as far as the model takes it"
                                    : "name a FASTA file with proteins",
                 .where = choice.fasta});
  });
  lines = session.text_of_leader(lines);
  std::vector<std::string> records;
  for (std::size_t begin = 0; begin < lines.size();) {
    const std::size_t end = lines.find('\n', begin);
    records.push_back(lines.substr(begin, end - begin));
    begin = end + 1;
  }
  return records;
}

/// Over the records of all ranks, which share them out.
TokenSimilarity measure(const Session& session, AttentionSource& source,
                        std::span<const std::string> records) {
  const auto heads = std::ssize(source.heads());
  TokenSimilarity similarity(kKinds, std::ssize(source.layers()) * heads);
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (static_cast<int>(i % static_cast<std::size_t>(session.ranks())) != session.rank()) continue;
    const std::vector<std::int32_t> tokens = source.tokens_of(records[i]);
    std::int64_t first = 0;
    source.show(tokens, [&](std::int64_t, const Tensor& matrices) {
      similarity.add(first, matrices, tokens, source.model().causal);
      first += heads;
    });
  }
  sum_totals(session.world(), similarity.sums());
  return similarity;
}

struct Pair {
  double value;
  std::int64_t a;
  std::int64_t b;

  std::string text() const {
    const char first = kAminoAcids[static_cast<std::size_t>(a)];
    const char second = kAminoAcids[static_cast<std::size_t>(b)];
    return fmt::format("{} {}{:>10.4f}{:>10}", first, second, value, blosum62(first, second));
  }
};

/// Of different amino acids, from the highest value on.
std::vector<Pair> highest_pairs(std::span<const double> matrix) {
  std::vector<Pair> pairs;
  for (std::int64_t a = 0; a < kKinds; ++a) {
    for (std::int64_t b = a + 1; b < kKinds; ++b) {
      const double value = matrix[static_cast<std::size_t>(a * kKinds + b)];
      if (!std::isnan(value)) pairs.push_back({value, a, b});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair& x, const Pair& y) { return x.value > y.value; });
  return pairs;
}

std::string correlation_text(double correlation) {
  return std::isnan(correlation) ? "none" : fmt::format("{:.4f}", correlation);
}

void say(Session& session, const SimilarityContents& contents) {
  const std::vector<Pair> attention = highest_pairs(contents.symmetrized);
  const std::vector<Pair> likeness = highest_pairs(contents.likeness);
  session.say("\n{:<13}{:>10}    {:<13}{:>10}", "attention", "BLOSUM62", "likeness", "BLOSUM62");
  for (std::size_t i = 0; i < std::min(kMostSimilar, attention.size()); ++i) {
    const std::string right = i < likeness.size() ? "    " + likeness[i].text() : "";
    session.say("{}{}", attention[i].text(), right);
  }
  const Correlations by_attention = correlate(contents.symmetrized, contents.blosum62, kKinds);
  const Correlations by_likeness = correlate(contents.likeness, contents.blosum62, kKinds);
  session.say("\n{:<28}{:>12}{:>12}", "correlation with BLOSUM62", "attention", "likeness");
  session.say("{:<28}{:>12}{:>12}", "Pearson", correlation_text(by_attention.pearson),
              correlation_text(by_likeness.pearson));
  session.say("{:<28}{:>12}{:>12}", "Spearman", correlation_text(by_attention.spearman),
              correlation_text(by_likeness.spearman));
  session.say("{:<28}{:>12}{:>12}", "pairs", by_attention.pairs, by_likeness.pairs);
}

/// The middle has no colour; off the diagonal nothing is beyond the ends, but what is further away
/// than `most`.
HeatMapPanel panel_of(const std::string& title, std::span<const double> values, double middle,
                      double most = HUGE_VAL) {
  double reach = 0;
  for (const Pair& pair : highest_pairs(values)) {
    reach = std::max(reach, std::abs(pair.value - middle));
  }
  reach = std::clamp(reach, kLeastReach, most);
  const std::vector<float> cells(values.begin(), values.end());
  return {.title = title,
          .cells = cells_of(cells, kKinds, kKinds),
          .low = middle - reach,
          .high = middle + reach,
          .palette = Palette::two_sided};
}

double mean_of(const std::vector<Pair>& pairs) {
  double sum = 0;
  for (const Pair& pair : pairs) sum += pair.value;
  return pairs.empty() ? 0 : sum / static_cast<double>(pairs.size());
}

HeatMap map_of(const SimilarityContents& contents) {
  HeatMap map{.title = fmt::format("{} at step {}, {} records", contents.checkpoint, contents.step,
                                   contents.records),
              .size = kKinds,
              .rows = "amino acid",
              .columns = "amino acid",
              .panels_across = 3};
  for (const char letter : kAminoAcids) map.labels.emplace_back(1, letter);
  const double mean = mean_of(highest_pairs(contents.likeness));
  map.panels = {
      panel_of("attention of rows to columns, 1: no preference", contents.similarity, 1, 1),
      panel_of("likeness of what they attend to", contents.likeness, mean,
               std::max(1 - mean, kLeastReach)),
      panel_of("BLOSUM62", contents.blosum62, 0)};
  return map;
}

}  // namespace

void InspectSimilarity::declare(CLI::App& app) {
  choice_.declare(app);
  app.add_option("--records", records_, "take only the first records; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.footer(
      "The similarity of amino acids a and b is the attention of all a to other tokens that are b, "
      "divided by what it would be if every token spread its attention evenly over all that it "
      "sees: 1 is no preference. It is summed over records, places, layers and heads; B J O U X Z "
      "are in no pair. The likeness of a and b is the correlation of these numbers of a and of b, "
      "over layers, heads and the amino acids attended to. Both are compared with BLOSUM62 over "
      "the "
      "pairs of different amino acids, both orders of a pair averaged.");
}

void InspectSimilarity::run(Session& session) const {
  on_leader(session, [&] { choice_.require_output(); });
  AttentionSource source(session, choice_);
  require_proteins(source.checkpoint());
  const std::vector<std::string> records = read_records(session, source, choice_, records_);
  const TokenSimilarity measured = measure(session, source, records);
  on_leader(session, [&] {
    const std::vector<double> similarity = measured.values();
    const std::vector<double> both = symmetrized(similarity, kKinds);
    const std::vector<double> likeness = measured.likeness();
    const std::vector<double> evolution = blosum62_matrix();
    const SimilarityContents contents{.checkpoint = source.checkpoint().path.string(),
                                      .step = source.checkpoint().header.step,
                                      .records = std::ssize(records),
                                      .letters = std::string(kAminoAcids),
                                      .similarity = similarity,
                                      .symmetrized = both,
                                      .likeness = likeness,
                                      .blosum62 = evolution};
    say(session, contents);
    write_similarity(choice_.numbers(), contents);
    session.say("\nwrote {}: {}", choice_.numbers(), counted(contents.records, "record"));
    draw_heat_map(map_of(contents), choice_.picture());
    session.say("wrote {}", choice_.picture());
  });
}

}  // namespace longscan
