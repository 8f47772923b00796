// `longscan train`: settles what all ranks will do, says it, and does it.
#include "dist/agreement.h"
#include "dist/mesh.h"
#include "kernels/error.h"
#include "launch/estimate.h"
#include "launch/opened.h"
#include "launch/rank_device.h"
#include "launch/resume.h"
#include "launch/settings.h"
#include "launch/training_run.h"
#include "launch/verbs.h"
#include "model/parameters.h"

namespace longscan {

namespace {

void require_one_origin(const std::string& resume, const std::string& init_from) {
  if (init_from.empty() || resume == "auto" || resume == "none") return;
  throw Error(ErrorKind::usage,
              {.what = "--init-from cannot be used with --resume=" + resume,
               .why = "a run that goes on from a checkpoint has its parameters from there",
               .hint = "leave one of the two out",
               .where = "command line"});
}

/// What must be the same on all ranks. Collective.
std::vector<Claim> claims_of(const Session& session, const config::Config& configuration,
                             const TokenStore& store) {
  config::Config shared = configuration;
  shared.mutable_parallel()->clear_threads();
  const config::Config of_leader =
      configuration_from_text(session.text_of_leader(to_text(shared)), "configuration");
  const std::vector<std::string> differences = config_differences(of_leader, shared);
  std::string told = fmt::format("{:.12}", hash_of(configuration));
  if (!differences.empty()) told += fmt::format(" ({})", fmt::join(differences, ", "));
  return {{"the configuration", told},
          {"the data", fmt::format("{:.12}", store.content_hash())},
          {"the version of the program", LONGSCAN_VERSION}};
}

void say_plan(Session& session, const config::Config& configuration, const ModelOptions& model,
              const Mesh& mesh, const std::string& device) {
  session.say("{}", to_text(configuration));
  session.say("{}: {}, {}, {} for the same line", counted(session.ranks(), "rank"),
              counted(mesh.data_size(), "sequence group"), device, mesh.sequence_size());
  session.say("{} parameters", grouped(count_parameters(model)));
}

void say_memory(Session& session, const MemoryEstimate& memory, const Device& device) {
  const auto text = [](std::int64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  const auto say_bytes = [&](const char* what, std::int64_t bytes) {
    session.say("  {:<14}{:>12}", what, text(bytes));
  };
  if (device.on_host()) {
    session.say("memory a rank, about {} and some 150 MiB of the program itself",
                text(memory.on_device() + memory.tokens));
  } else {
    session.say("memory a rank on its GPU, about {}, beside {} that are in use there already",
                text(memory.on_device()), text(device.memory_used()));
  }
  say_bytes("parameters", memory.parameters);
  say_bytes("gradients", memory.gradients);
  say_bytes("moments", memory.moments);
  say_bytes("activations", memory.activations);
  say_bytes("states", memory.states);
  if (!device.on_host()) {
    say_bytes("scratch", memory.scratch);
    session.say("memory a rank on its host, beside the program itself");
  }
  say_bytes("tokens", memory.tokens);
}

void say_costs(Session& session, const config::Config& configuration, const ModelOptions& model,
               const Mesh& mesh, const TokenStore& store, const Device& device) {
  const Layout layout = layout_of(configuration, mesh.sequence_size(), session.ranks());
  say_memory(session, memory_of(model, layout, device), device);
  const ExchangeEstimate exchange = exchange_of(model, layout);
  std::string handed = grouped(exchange.states) + " of states";
  if (exchange.keys_values > 0)
    handed += ", " + grouped(exchange.keys_values) + " of keys and values";
  session.say("bytes a rank hands over in a step: {}, {} of gradients", handed,
              grouped(exchange.gradients));

  const Loader loader(store, training_options(configuration));
  // Not as integers: their product may be any number.
  const double steps_an_epoch = static_cast<double>(loader.windows()) /
                                static_cast<double>(configuration.data().batch()) /
                                static_cast<double>(configuration.optimizer().accumulation());
  const std::int64_t steps = configuration.training().max_steps();
  session.say("{} of {} tokens in {}; {:.2f} steps an epoch, {} are {:.2f} epochs",
              counted(loader.windows(), "window"), grouped(loader.options().window),
              store.path().string(), steps_an_epoch, counted(steps, "step"),
              static_cast<double>(steps) / steps_an_epoch);
}

}  // namespace

void Train::declare(CLI::App& app) {
  flags_ = {
      {"--data", "data.store", "the token store that `longscan pack` wrote"},
      {"--run", "training.folder", "the run's folder: checkpoints, metrics, configuration"},
      {"--max-steps", "training.max_steps", "optimizer steps of the whole run"},
      {"--save-every", "training.save_every", "steps between checkpoints; 0: at the end"},
      {"--keep-last", "training.keep_last", "checkpoints to keep; 0: all"},
      {"--eval-every", "training.eval_every", "steps between evaluations; 0: at the end"},
      {"--log-every", "training.log_every", "steps between log lines; 0: at the end"},
      {"--seed", "training.seed", "of initial weights, order of windows, dropout"},
      {"--threads", "parallel.threads", "threads a rank; 0: its share of the cores"},
      {"--sequence", "parallel.sequence", "ranks that share a line; 0: all"},
      {"--device", "parallel.device", "auto (GPUs, where every rank has one), cpu or cuda"},
      {"--communicator", "parallel.communicator", "of GPUs: fastest, nccl or mpi"},
      {"--precision", "training.precision", "fp32; on GPUs also tf32 or bf16"},
  };
  app.add_option("--config", config_, "configuration in Protobuf text format");
  app.add_option("--set", set_, "KEY=VALUE on top of the configuration, as in model.width=512")
      ->allow_extra_args(false)
      ->take_all();
  for (KeyFlag& flag : flags_) {
    flag.option =
        app.add_option(flag.flag, flag.value, fmt::format("{} ({})", flag.help, flag.key));
  }
  app.add_option("--resume", resume_,
                 "auto: go on from the latest checkpoint of the run's folder; none: begin anew; or "
                 "the path of a checkpoint or a run's folder")
      ->capture_default_str();
  app.add_option("--init-from", init_from_,
                 "take the parameters that fit a new run's model from this checkpoint, or from the "
                 "latest of a run's folder");
  app.add_flag("--dry-run", dry_run_,
               "check configuration and data, say what the run would cost, and end");
}

std::vector<std::string> Train::assignments() const {
  std::vector<std::string> assignments = set_;
  for (const KeyFlag& flag : flags_) {
    if (flag.option->count() > 0) assignments.push_back(fmt::format("{}={}", flag.key, flag.value));
  }
  return assignments;
}

void Train::run(Session& session) const {
  require_one_origin(resume_, init_from_);
  config::Config configuration;
  std::optional<TokenStore> store;
  on_all_ranks(session.world(), [&] {
    configuration = assemble(config_, assignments());
    store = open_store(configuration.data().store());
  });
  std::vector<Claim> claims = claims_of(session, configuration, *store);
  claims.push_back({"--resume", resume_});
  claims.push_back({"--init-from", init_from_});
  claims.push_back({"--dry-run", dry_run_ ? "yes" : "no"});
  require_agreement(session.world(), claims);

  RankDevice computes(session, DeviceChoice::of(configuration));
  Mesh mesh(computes.world(), static_cast<int>(configuration.parallel().sequence()));
  const ModelOptions model = trained_model(configuration, store->vocabulary());
  say_plan(session, configuration, model, mesh, computes.description());
  if (dry_run_) {
    say_costs(session, configuration, model, mesh, *store, computes.device());
    return;
  }
  // GPUs that do not reach each other are found out before the run has left a trace.
  computes.world().for_device();
  const StartingPoint start = find_start(session, resume_, init_from_, configuration, *store);
  TrainingRun(session, configuration, *store, start, computes.device(), mesh).run();
}

}  // namespace longscan
