// Counts that are zero are left out: what is said is worth reading.
#include "launch/token_store_report.h"

namespace longscan {

void say_reading(Session& session, const ReadReport& report) {
  session.say("read {} letters in {} from {}", grouped(report.letters),
              counted(report.records, "record"), counted(report.files, "file"));
  struct Count {
    std::int64_t number;
    const char* what;
  };
  const Count counts[] = {
      {report.lower_case, "lower-case letters read as upper case"},
      {report.mapped, "unknown letters (in FASTA read as X, in text kept as bytes)"},
      {report.stops, "'*' at the end of a record dropped"},
      {report.blanks, "blanks between letters dropped"},
      {report.empty, "records without a letter left out"},
      {report.duplicates, "records whose identifier was there before, kept"},
      {report.other_files, "files that are no texts not read"},
  };
  for (const Count& count : counts) {
    if (count.number > 0) session.say("  {:>12}  {}", grouped(count.number), count.what);
  }
  for (const std::string& notice : report.notices) session.say("  {}", notice);
}

void say_contents(Session& session, std::span<const SplitSummary> splits,
                  const Vocabulary& vocabulary, const std::string& content_hash) {
  session.say("{:<12}{:>12}{:>16}{:>22}", "split", "records", "tokens", "unigram perplexity");
  for (const Split split : kSplits) {
    const SplitSummary& summary = splits[static_cast<std::size_t>(split)];
    session.say("{:<12}{:>12}{:>16}{:>22}", name_of(split), grouped(summary.records),
                grouped(summary.tokens),
                summary.tokens == 0 ? "-" : fmt::format("{:.4f}", summary.unigram_perplexity));
  }
  session.say("vocabulary  {} ({} tokens: {} letters, pad {}, begin {}, end {}, mask {})",
              vocabulary.name(), vocabulary.size(), vocabulary.letters().size(), vocabulary.pad(),
              vocabulary.begin(), vocabulary.end(), vocabulary.mask());
  session.say("content     {}", content_hash);
}

}  // namespace longscan
