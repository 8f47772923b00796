// The order of what happens in a step is the same on all ranks, and so is that of its collectives.
#include "launch/training_run.h"

#include <algorithm>

#include "dist/agreement.h"
#include "io/atomic_file.h"
#include "io/checkpoint_folder.h"
#include "kernels/error.h"
#include "launch/estimate.h"
#include "launch/evaluation.h"
#include "launch/rank_line.h"
#include "launch/saved_run.h"
#include "launch/settings.h"
#include "launch/signals.h"

namespace longscan {

namespace {

/// Tokens of a document of the training split, on average.
std::int64_t document_tokens(const config::Config& configuration, const TokenStore& store) {
  const std::int64_t window = configuration.data().window();
  const std::int64_t records = store.records(Split::train);
  if (!configuration.data().isolate_records() || records == 0) return window;
  return std::min(window, store.tokens(Split::train) / records);
}

}  // namespace

TrainingRun::TrainingRun(Session& session, const config::Config& configuration,
                         const TokenStore& store, const StartingPoint& start, Device& device,
                         Mesh& mesh)
    : session_(session),
      configuration_(configuration),
      store_(store),
      start_(start),
      mesh_(mesh),
      device_(device),
      folder_(configuration.training().folder()),
      trainer_(trained_model(configuration, store.vocabulary()), optimizer_options(configuration),
               configuration.training().seed(), device, mesh),
      loader_(store, training_options(configuration), start.loader),
      meter_(
          configuration.training().max_steps(),
          flops_per_token(trainer_.transformer().options(), document_tokens(configuration, store)),
          peak_of_all_ranks()) {}

void TrainingRun::run() {
  begin();
  if (is_done()) {
    session_.say("the run has taken its {} already; raise --max-steps to go on",
                 counted(configuration_.training().max_steps(), "step"));
    evaluate_now();
    return;
  }
  note_signals();  // which each step asks for
  const config::Training& training = configuration_.training();
  if (start_.has_origin() && training.eval_every() > 0) {
    evaluate_now();  // what the parameters are worth in this model before it learns
    write_metrics();
  }
  meter_.reset(communication_seconds());
  while (!is_done()) {
    take_step();
    // Some ranks may have got a signal during this step and others not yet.
    const bool stops = any_rank(session_.world(), noted_signal() != nullptr);
    if (is_due(training.log_every()) || stops) log();
    meter_.pause(communication_seconds());
    if (is_due(training.eval_every())) evaluate_now();
    write_metrics();
    if (is_due(training.save_every()) || stops) save();
    meter_.go_on(communication_seconds());
    if (!stops || is_done()) continue;
    const char* signal = noted_signal();
    throw Error(ErrorKind::stopped,
                {.what = fmt::format("stopped after step {}", trainer_.steps()),
                 .why = session_.text_of_leader(signal ? signal : "a signal") + " asked for it",
                 .hint = "start the same command again to go on",
                 .where = folder_.string()});
  }
}

void TrainingRun::begin() {
  if (start_.has_origin()) {
    take_parameters(session_, start_.origin, trainer_.parameters());
  }
  if (!start_.is_new()) {
    load_trainer(session_, start_.checkpoint, trainer_);
    // A line is the key of its dropout, so lines are counted where the loader stands.
    const std::int64_t windows = start_.loader.epoch * loader_.windows() + start_.loader.window;
    trainer_.resume_at(start_.header.step, windows / configuration_.data().batch());
    tokens_seen_ = start_.header.tokens_seen;
  }
  if (store_.tokens(Split::validation) == 0) {
    session_.say("the token store has no validation split: nothing is evaluated");
  }
  if (is_done()) return;
  on_leader(session_, [&] {
    make_folder(folder_);
    remove_leftovers(folder_);
    write_file(folder_ / "config.textproto", to_text(configuration_));
    // A run that goes back to an earlier checkpoint of its own folder leaves the later ones.
    if (!start_.is_new() && lies_in(start_.checkpoint, folder_)) {
      set_latest(folder_, start_.checkpoint);
    }
    writer_.emplace(folder_, start_.header.step);
  });
}

double TrainingRun::peak_of_all_ranks() {
  session_.world().barrier();  // all at once, as in a step
  double peak = measure_peak(device_, trainer_.transformer().options().dtype);
  session_.world().all_reduce_sum(Tensor::dense(&peak, DType::f64, {1}));
  return peak;
}

double TrainingRun::communication_seconds() const {
  return mesh_.world().traffic().seconds + mesh_.sequence().traffic().seconds;
}

void TrainingRun::take_step() {
  // Of a few letters none may be masked: such lines leave the step without a target, and further
  // ones belong to it until there is one.
  bool has_targets = false;
  std::int64_t lines = 0;
  for (; lines < configuration_.optimizer().accumulation() || !has_targets; ++lines) {
    has_targets = has_targets || loader_.has_targets();
    const RankLine mine = read_line(loader_, mesh_, configuration_.training().segment());
    trainer_.accumulate(mine.shards);
    loader_.advance();
  }
  const StepReport report = trainer_.update();
  tokens_seen_ += static_cast<std::int64_t>(report.totals.tokens);
  meter_.add(report, lines * loader_.line_tokens());
  show_progress();
}

bool TrainingRun::is_due(std::int64_t interval) const {
  return is_done() || (interval > 0 && trainer_.steps() % interval == 0);
}

Progress TrainingRun::progress() const {
  return meter_.progress(trainer_.steps(), communication_seconds(), device_.memory_used());
}

void TrainingRun::show_progress() {
  if (!session_.leads() || session_.terminal().width() == 0) return;
  session_.terminal().draw(live_line(progress(), session_.terminal().width()));
}

void TrainingRun::log() {
  const Progress now = progress();
  if (session_.terminal().width() == 0) session_.say("{}", log_line(now));
  metrics_ = metrics_of(now);
  metrics_.push_back({"tokens_seen", static_cast<double>(tokens_seen_)});
  metrics_.push_back({"epoch", static_cast<double>(loader_.state().epoch) +
                                   static_cast<double>(loader_.state().window) /
                                       static_cast<double>(loader_.windows())});
  meter_.reset(communication_seconds());
}

void TrainingRun::evaluate_now() {
  if (store_.tokens(Split::validation) == 0) return;
  const Evaluation evaluation =
      evaluate(trainer_.transformer(), trainer_.parameters().weights(), mesh_, store_,
               evaluation_options(configuration_, Split::validation),
               configuration_.training().eval_windows(), configuration_.training().segment());
  if (evaluation.totals.tokens == 0) {
    session_.say("no token of the windows evaluated is masked: there is nothing to predict");
    return;
  }
  session_.say(
      "validation at step {}: loss {:.4f}  perplexity {:.3f} (unigram baseline {:.3f})  accuracy "
      "{:.2f} %",
      trainer_.steps(), evaluation.loss(), evaluation.perplexity(), evaluation.unigram_perplexity(),
      100 * evaluation.accuracy());
  const std::vector<Metric> found = {
      {"validation_loss", evaluation.loss()},
      {"validation_perplexity", evaluation.perplexity()},
      {"validation_accuracy", evaluation.accuracy()},
      {"validation_unigram_perplexity", evaluation.unigram_perplexity()}};
  metrics_.insert(metrics_.end(), found.begin(), found.end());
}

void TrainingRun::write_metrics() {
  if (metrics_.empty()) return;
  on_leader(session_, [&] { writer_->write(trainer_.steps(), metrics_); });
  metrics_.clear();
}

void TrainingRun::save() {
  const CheckpointHeader header{.step = trainer_.steps(),
                                .tokens_seen = tokens_seen_,
                                .loader_epoch = loader_.state().epoch,
                                .loader_window = loader_.state().window,
                                .seed = configuration_.training().seed(),
                                .vocabulary = store_.vocabulary().name(),
                                .data_hash = store_.content_hash(),
                                .configuration = to_text(configuration_)};
  save_trainer(session_, folder_, header, trainer_, configuration_.training().keep_last());
}

}  // namespace longscan
