// One list of fields makes both lines; the live one ends where the terminal does.
#include "launch/step_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "launch/session.h"

namespace longscan {

namespace {

std::string rate_text(double per_second) {
  if (per_second >= 1e6) return fmt::format("{:.2f} M", per_second / 1e6);
  if (per_second >= 1e4) return fmt::format("{:.1f} k", per_second / 1e3);
  return fmt::format("{:.0f} ", per_second);
}

/// The most wanted first: a narrow terminal shows only these.
std::vector<std::string> fields_of(const Progress& progress) {
  const std::string steps = fmt::format("{}", progress.steps);
  return {fmt::format("step {:>{}}/{}", progress.step, steps.size(), steps),
          fmt::format("loss {:.4f}", progress.loss),
          fmt::format("perplexity {:.3f}", progress.perplexity),
          fmt::format("accuracy {:.2f} %", 100 * progress.accuracy),
          fmt::format("ETA {}", duration_text(progress.seconds_left)),
          fmt::format("{}tokens/s", rate_text(progress.tokens_per_second)),
          fmt::format("{:.1f} ms", 1e3 * progress.seconds_per_step),
          fmt::format("norm {:.3f}", progress.gradient_norm),
          fmt::format("rate {:.2e}", progress.learning_rate),
          fmt::format("{:.0f} % of peak", 100 * progress.share_of_peak),
          bytes_text(progress.memory_bytes),
          fmt::format("{:.1f} % communication", 100 * progress.communication_share)};
}

}  // namespace

void ProgressMeter::reset(double communication_seconds) {
  begin_ = Clock::now();
  communication_begin_ = communication_seconds;
  added_ = 0;
  tokens_ = 0;
  totals_ = {};
}

void ProgressMeter::add(const StepReport& report, std::int64_t tokens) {
  tokens_ += static_cast<double>(tokens);
  totals_.loss += report.totals.loss;
  totals_.correct += report.totals.correct;
  totals_.tokens += report.totals.tokens;
  last_ = report;
  ++added_;
}

void ProgressMeter::pause(double communication_seconds) {
  pause_begin_ = Clock::now();
  communication_pause_begin_ = communication_seconds;
}

void ProgressMeter::go_on(double communication_seconds) {
  begin_ += Clock::now() - pause_begin_;
  communication_begin_ += communication_seconds - communication_pause_begin_;
}

Progress ProgressMeter::progress(std::int64_t step, double communication_seconds,
                                 std::int64_t memory_bytes) const {
  const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
  const double tokens_per_second = tokens_ / seconds;
  const double seconds_per_step = seconds / static_cast<double>(added_);
  const double loss = totals_.loss / totals_.tokens;
  return {.step = step,
          .steps = steps_,
          .loss = loss,
          .perplexity = std::exp(loss),
          .accuracy = totals_.correct / totals_.tokens,
          .gradient_norm = last_.gradient_norm,
          .learning_rate = last_.learning_rate,
          .seconds_per_step = seconds_per_step,
          .tokens_per_second = tokens_per_second,
          .share_of_peak = tokens_per_second * flops_per_token_ / peak_,
          .memory_bytes = static_cast<double>(memory_bytes),
          .communication_share = (communication_seconds - communication_begin_) / seconds,
          .seconds_left = seconds_per_step * static_cast<double>(steps_ - step)};
}

std::string log_line(const Progress& progress) {
  return fmt::format("{}", fmt::join(fields_of(progress), "  "));
}

std::string live_line(const Progress& progress, int width) {
  constexpr std::int64_t kBar = 12;
  const std::int64_t filled = kBar * progress.step / std::max<std::int64_t>(progress.steps, 1);
  std::string line =
      fmt::format("[{:<{}}]", std::string(static_cast<std::size_t>(filled), '='), kBar);
  for (const std::string& field : fields_of(progress)) {
    // The last column stays free: some terminals wrap when it is filled.
    if (std::ssize(line) + 2 + std::ssize(field) >= width) break;
    line += "  " + field;
  }
  return line;
}

std::vector<Metric> metrics_of(const Progress& progress) {
  return {{"loss", progress.loss},
          {"perplexity", progress.perplexity},
          {"accuracy", progress.accuracy},
          {"gradient_norm", progress.gradient_norm},
          {"learning_rate", progress.learning_rate},
          {"milliseconds_per_step", 1e3 * progress.seconds_per_step},
          {"tokens_per_second", progress.tokens_per_second},
          {"share_of_peak", progress.share_of_peak},
          {"memory_bytes", progress.memory_bytes},
          {"communication_share", progress.communication_share}};
}

}  // namespace longscan
