// `longscan inspect similarity`: attention by pair of amino acids, beside what evolution swaps.
#include <algorithm>
#include <cmath>

#include "dist/gradient_sum.h"
#include "io/attention_file.h"
#include "io/blosum62.h"
#include "kernels/error.h"
#include "launch/heat_map.h"
#include "launch/saved_run.h"
#include "launch/token_store_report.h"
#include "launch/verbs.h"
#include "model/token_similarity.h"

namespace longscan {

namespace {

constexpr auto kKinds = static_cast<std::int64_t>(kAminoAcids.size());
constexpr std::size_t kMostSimilar = 10;  // pairs that are told

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
std::vector<double> measure(const Session& session, AttentionSource& source,
                            std::span<const std::string> records) {
  TokenSimilarity similarity(kKinds);
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (static_cast<int>(i % static_cast<std::size_t>(session.ranks())) != session.rank()) continue;
    const std::vector<std::int32_t> tokens = source.tokens_of(records[i]);
    source.show(tokens, [&](std::int64_t, const Tensor& matrices) {
      similarity.add(matrices, tokens, source.model().causal);
    });
  }
  sum_totals(session.world(), similarity.sums());
  return similarity.values();
}

void say_most_similar(Session& session, std::span<const double> symmetrized) {
  struct Pair {
    double value;
    std::int64_t a;
    std::int64_t b;
  };
  std::vector<Pair> pairs;
  for (std::int64_t a = 0; a < kKinds; ++a) {
    for (std::int64_t b = a + 1; b < kKinds; ++b) {
      const double value = symmetrized[static_cast<std::size_t>(a * kKinds + b)];
      if (!std::isnan(value)) pairs.push_back({value, a, b});
    }
  }
  std::stable_sort(pairs.begin(), pairs.end(),
                   [](const Pair& x, const Pair& y) { return x.value > y.value; });
  session.say("\n{:<16}{:>12}{:>12}", "most similar", "attention", "BLOSUM62");
  for (std::size_t i = 0; i < std::min(kMostSimilar, pairs.size()); ++i) {
    const char a = kAminoAcids[static_cast<std::size_t>(pairs[i].a)];
    const char b = kAminoAcids[static_cast<std::size_t>(pairs[i].b)];
    session.say("{:<16}{:>12.4f}{:>12}", fmt::format("{} {}", a, b), pairs[i].value,
                blosum62(a, b));
  }
}

HeatMapPanel panel_of(const std::string& title, std::span<const double> values, double middle,
                      double reach) {
  const std::vector<float> cells(values.begin(), values.end());
  return {.title = title,
          .cells = cells_of(cells, kKinds, kKinds),
          .low = middle - reach,
          .high = middle + reach,
          .palette = Palette::two_sided};
}

/// How far numbers off the diagonal are from the middle.
double reach_of(std::span<const double> values, double middle) {
  double reach = 0;
  for (std::int64_t a = 0; a < kKinds; ++a) {
    for (std::int64_t b = 0; b < kKinds; ++b) {
      const double distance = std::abs(values[static_cast<std::size_t>(a * kKinds + b)] - middle);
      if (a != b && distance > reach) reach = distance;
    }
  }
  return reach > 0 ? reach : 1;
}

HeatMap map_of(const SimilarityContents& contents) {
  HeatMap map{.title = fmt::format("{} at step {}, {} records", contents.checkpoint, contents.step,
                                   contents.records),
              .size = kKinds,
              .rows = "amino acid that attends",
              .columns = "amino acid attended to",
              .panels_across = 2};
  for (const char letter : kAminoAcids) map.labels.emplace_back(1, letter);
  map.panels = {panel_of("attention, 1: no preference", contents.similarity, 1,
                         std::min(reach_of(contents.similarity, 1), 1.0)),
                panel_of("BLOSUM62", contents.blosum62, 0, reach_of(contents.blosum62, 0))};
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
      "are in no pair. The correlations are over the pairs of different amino acids, of which both "
      "orders are averaged.");
}

void InspectSimilarity::run(Session& session) const {
  AttentionSource source(session, choice_);
  require_proteins(source.checkpoint());
  on_leader(session, [&] { choice_.require_output(); });
  const std::vector<std::string> records = read_records(session, source, choice_, records_);
  const std::vector<double> similarity = measure(session, source, records);
  on_leader(session, [&] {
    const std::vector<double> both = symmetrized(similarity, kKinds);
    const std::vector<double> evolution = blosum62_matrix();
    const SimilarityContents contents{.checkpoint = source.checkpoint().path.string(),
                                      .step = source.checkpoint().header.step,
                                      .records = std::ssize(records),
                                      .letters = std::string(kAminoAcids),
                                      .similarity = similarity,
                                      .symmetrized = both,
                                      .blosum62 = evolution};
    const Correlations correlations = correlate(both, evolution, kKinds);
    say_most_similar(session, both);
    session.say("\ncorrelation with BLOSUM62 over {} pairs of different amino acids",
                correlations.pairs);
    session.say("{:<16}{:>12.4f}", "Pearson", correlations.pearson);
    session.say("{:<16}{:>12.4f}", "Spearman", correlations.spearman);
    write_similarity(choice_.numbers(), contents);
    session.say("\nwrote {}: {}", choice_.numbers(), counted(contents.records, "record"));
    draw_heat_map(map_of(contents), choice_.picture());
    session.say("wrote {}", choice_.picture());
  });
}

}  // namespace longscan
