// Counts that are zero are left out: what is said is worth reading.
#include "launch/token_store_report.h"

#include <cmath>

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

void say_contents(Session& session, const TokenStore& store) {
  session.say("{:<12}{:>12}{:>16}{:>22}", "split", "records", "tokens", "unigram perplexity");
  for (const Split split : kSplits) {
    const double perplexity = unigram_perplexity(store, split);
    session.say("{:<12}{:>12}{:>16}{:>22}", name_of(split), grouped(store.records(split)),
                grouped(store.tokens(split)),
                std::isnan(perplexity) ? "-" : fmt::format("{:.4f}", perplexity));
  }
  session.say("vocabulary  {} ({} tokens: {} letters, pad {}, begin {}, end {}, mask {})",
              store.vocabulary().name(), store.vocabulary().size(),
              store.vocabulary().letters().size(), store.vocabulary().pad(),
              store.vocabulary().begin(), store.vocabulary().end(), store.vocabulary().mask());
  session.say("content     {}", store.content_hash());
}

}  // namespace longscan
