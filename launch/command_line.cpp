// The options of all verbs, and what is said to words that are none of them.
#include "launch/command_line.h"

#include "io/spelling.h"
#include "kernels/error.h"

namespace longscan {

namespace {

/// "inspect attention ", as they are typed; empty for the program itself.
std::string path_of(const CLI::App& app) {
  if (app.get_parent() == nullptr) return {};
  return path_of(*app.get_parent()) + app.get_name() + " ";
}

}  // namespace

template <class Verb>
void CommandLine::add(Verb& verb, const char* name, const char* help) {
  CLI::App* app = app_.add_subcommand(name, help);
  verb.declare(*app);
  app->callback([this, &verb] { chosen_ = [&verb](Session& session) { verb.run(session); }; });
}

CommandLine::CommandLine()
    : app_("Longscan trains transformers with linear attention on sequences of any length.",
           "longscan") {
  app_.set_version_flag("--version", "longscan " LONGSCAN_VERSION);
  app_.require_subcommand(1);
  app_.footer(
      "`longscan VERB --help` tells the options of a verb. All verbs run alone, under "
      "`mpirun -n P` and under `srun`.");
  add(pack_, "pack", "read FASTA or text into a token store");
  add(train_, "train", "train a model on a token store");
  add(evaluate_, "eval", "measure how well a checkpoint predicts a split");
  add(generate_, "generate", "draw samples from a checkpoint's model");
  add(inspect_, "inspect", "say what is in a token store, a checkpoint or a run's folder");
}

std::string CommandLine::parse(int argument_count, const char* const* arguments) {
  try {
    app_.parse(argument_count, arguments);
    return {};
  } catch (const CLI::CallForHelp&) {
    return innermost().help();
  } catch (const CLI::CallForVersion& version) {
    return version.what();
  } catch (const CLI::ParseError& error) {
    // CLI11 misses the verb before it sees the word in its place.
    const bool extra =
        error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) || verb().empty();
    const std::vector<std::string> words = app_.remaining(true);
    if (extra && !words.empty()) {
      throw Error(ErrorKind::usage, {.what = fmt::format("'{}' is not known here", words.front()),
                                     .hint = hint_for(words.front()),
                                     .where = "command line"});
    }
    throw Error(ErrorKind::usage,
                {.what = error.what(),
                 .hint = fmt::format("`longscan {}--help` tells the options", path_of(innermost())),
                 .where = "command line"});
  }
}

std::string CommandLine::verb() const {
  const std::vector<CLI::App*> verbs = app_.get_subcommands();
  return verbs.empty() ? std::string() : verbs.front()->get_name();
}

const CLI::App& CommandLine::innermost() const {
  const CLI::App* app = &app_;
  while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
  return *app;
}

void CommandLine::run(Session& session) const {
  chosen_(session);
}

std::string CommandLine::hint_for(const std::string& word) const {
  std::vector<std::string> names;
  const CLI::App& app = innermost();
  for (const CLI::App* verb : app.get_subcommands({})) names.push_back(verb->get_name());
  if (&app != &app_) {
    for (const CLI::Option* option : app.get_options()) {
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    }
  }
  return suggestion(word.substr(0, word.find('=')), names);
}

}  // namespace longscan
