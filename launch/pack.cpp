// `longscan pack`: what was read, what was changed or left out, and what came of it.
#include "io/pack.h"

#include "kernels/error.h"
#include "launch/saved_run.h"
#include "launch/token_store_report.h"
#include "launch/verbs.h"

namespace longscan {

void Pack::declare(CLI::App& app) {
  app.add_option("inputs", options_.inputs,
                 "FASTA files (.gz or plain, - for standard input), one .txt file, or one folder "
                 "with train/*.txt validation/*.txt test/*.txt")
      ->required();
  app.add_option("--out", output_, "the token store to write")->required();
  app.add_option("--format", format_, "auto, fasta or text")
      ->check(CLI::IsMember({"auto", "fasta", "text"}))
      ->capture_default_str();
  app.add_option("--unknown", unknown_,
                 "what to do with letters that have no token: error, or map (FASTA reads X)")
      ->check(CLI::IsMember({"error", "map"}))
      ->capture_default_str();
  app.add_option("--validation-fraction", options_.validation_fraction,
                 "part of the records that is held out, drawn by a hash of each record")
      ->capture_default_str();
  app.add_flag("--overwrite", overwrite_, "replace a token store of this name");
}

void Pack::run(Session& session) const {
  PackOptions options = options_;
  options.output = output_;
  if (format_ == "fasta") options.format = InputFormat::fasta;
  if (format_ == "text") options.format = InputFormat::text;
  options.unknown = unknown_ == "map" ? Unknown::map : Unknown::error;
  on_leader(session, [&] {
    if (!overwrite_ && std::filesystem::exists(options.output)) {
      throw Error(
          ErrorKind::usage,
          {.what = "the file exists already", .hint = "--overwrite replaces it", .where = output_});
    }
    const PackReport report = pack(options);
    say_reading(session, report.reading);
    session.say("");
    say_contents(session, report.parts, Vocabulary::named(report.vocabulary), report.content_hash);
    session.say("\nwrote {}", output_);
  });
}

}  // namespace longscan
