// The rules that the values of a configuration keep, each said in words when it is broken.
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "io/configuration.h"
#include "kernels/error.h"

namespace longscan {

namespace {

// Far above what anybody trains and low enough that no product of two or three sizes overflows.
constexpr std::int64_t kMostUnits = std::int64_t{1} << 20;
constexpr std::int64_t kMostLayers = std::int64_t{1} << 16;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 40;
constexpr std::int64_t kMostRanks = std::int64_t{1} << 20;
constexpr std::int64_t kNoLimit = std::numeric_limits<std::int64_t>::max();

template <class Value>
[[noreturn]] void refuse(const char* key, const Value& value, const std::string& rule,
                         const std::string& hint = {}) {
  throw Error(ErrorKind::usage, {.what = fmt::format("{} = {} cannot be used", key, value),
                                 .why = fmt::format("it must {}", rule),
                                 .hint = hint,
                                 .where = "configuration"});
}

void require_integer(const char* key, std::int64_t value, std::int64_t least,
                     std::int64_t most = kNoLimit) {
  if (value < least) refuse(key, value, fmt::format("be at least {}", least));
  if (value > most) refuse(key, value, fmt::format("be at most {}", most));
}

/// `holds` compares the value, so it is false for NaN; infinity is refused here.
void require_number(const char* key, double value, bool holds, const char* rule) {
  if (!holds || !std::isfinite(value)) refuse(key, value, rule);
}

void validate_data(const config::Data& data) {
  require_integer("data.window", data.window(), 1, kMostTokens);
  require_integer("data.batch", data.batch(), 1, kMostTokens);
  if (data.batch() > kMostTokens / data.window()) {
    refuse("data.batch", data.batch(),
           fmt::format("keep a line of data.batch * data.window (= {}) tokens within {}",
                       data.window(), kMostTokens));
  }
}

void validate_model(const config::Model& model) {
  require_integer("model.width", model.width(), 1, kMostUnits);
  require_integer("model.layers", model.layers(), 1, kMostLayers);
  require_integer("model.heads", model.heads(), 1, kMostUnits);
  require_integer("model.hidden", model.hidden(), 1, kMostUnits);
  if (model.width() % model.heads() != 0) {
    refuse("model.heads", model.heads(), fmt::format("divide model.width = {}", model.width()));
  }
  const std::int64_t head_dimension = model.width() / model.heads();
  if (model.positions() == config::Model::rotary && head_dimension % 2 != 0) {
    refuse(
        "model.positions", "rotary",
        fmt::format("have heads of an even size, model.width / model.heads is {}", head_dimension),
        "change model.heads or choose other positions");
  }
  if (model.positions() == config::Model::sinusoidal && model.width() % 2 != 0) {
    refuse("model.positions", "sinusoidal",
           fmt::format("have an even model.width, which is {}", model.width()));
  }
  const double dropout = model.dropout();
  require_number("model.dropout", dropout, dropout >= 0 && dropout < 1,
                 "be at least 0 and less than 1");
}

void validate_optimizer(const config::Optimizer& optimizer) {
  const auto require_positive = [](const char* key, double value) {
    require_number(key, value, value > 0, "be a finite number above 0");
  };
  const auto require_not_negative = [](const char* key, double value) {
    require_number(key, value, value >= 0, "be a finite number, 0 or more");
  };
  const auto require_decay = [](const char* key, double value) {
    require_number(key, value, value >= 0 && value < 1, "be at least 0 and less than 1");
  };
  require_positive("optimizer.learning_rate", optimizer.learning_rate());
  require_decay("optimizer.beta1", optimizer.beta1());
  require_decay("optimizer.beta2", optimizer.beta2());
  require_positive("optimizer.epsilon", optimizer.epsilon());
  require_not_negative("optimizer.weight_decay", optimizer.weight_decay());
  require_integer("optimizer.warmup_steps", optimizer.warmup_steps(), 0);
  const double fraction = optimizer.final_fraction();
  require_number("optimizer.final_fraction", fraction, fraction >= 0 && fraction <= 1,
                 "lie between 0 and 1");
  require_not_negative("optimizer.clip_norm", optimizer.clip_norm());
  require_integer("optimizer.accumulation", optimizer.accumulation(), 1, kMostTokens);
}

void validate_training(const config::Training& training) {
  require_integer("training.max_steps", training.max_steps(), 0);
  require_integer("training.segment", training.segment(), 0, kMostTokens);
  require_integer("training.log_every", training.log_every(), 0);
  require_integer("training.eval_every", training.eval_every(), 0);
  require_integer("training.eval_windows", training.eval_windows(), 0);
  require_integer("training.save_every", training.save_every(), 0);
  require_integer("training.keep_last", training.keep_last(), 0);
  if (training.folder().empty()) refuse("training.folder", "''", "name a folder");
}

}  // namespace

void validate(const config::Config& configuration) {
  validate_data(configuration.data());
  validate_model(configuration.model());
  validate_optimizer(configuration.optimizer());
  validate_training(configuration.training());
  require_integer("parallel.sequence", configuration.parallel().sequence(), 0, kMostRanks);
  require_integer("parallel.threads", configuration.parallel().threads(), 0, kMostRanks);
}

}  // namespace longscan
