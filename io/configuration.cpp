// The configuration as a whole: what its keys do one by one is said for all of them here.
#include "io/configuration.h"

#include "io/atomic_file.h"
#include "io/configuration_keys.h"
#include "io/sha256.h"
#include "io/text_format.h"
#include "kernels/error.h"

namespace longscan {

config::Config read_configuration(const std::filesystem::path& file) {
  return configuration_from_text(read_file(file), file.string());
}

config::Config configuration_from_text(std::string_view text, const std::string& name) {
  config::Config configuration;
  parse_text_format(text, name, configuration);
  return configuration;
}

void apply_override(config::Config& configuration, std::string_view assignment) {
  const std::string where = fmt::format("--set {}", assignment);
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos) {
    throw Error(ErrorKind::usage, {.what = "there is no value",
                                   .why = "an override has the form KEY=VALUE",
                                   .hint = "as in model.width=512",
                                   .where = where});
  }
  const Key key = key_of(assignment.substr(0, equals), where);
  key.set(configuration, assignment.substr(equals + 1), where);
}

config::Config resolved(const config::Config& configuration) {
  config::Config result = configuration;
  for (const Key& key : all_keys()) key.set_default_if_absent(result);
  return result;
}

std::string to_text(const config::Config& configuration) {
  return print_text_format(resolved(configuration));
}

std::string hash_of(const config::Config& configuration) {
  config::Config shared = configuration;
  shared.mutable_parallel()->clear_threads();
  return sha256_of(to_text(shared));
}

std::vector<std::string> config_differences(const config::Config& before,
                                            const config::Config& after) {
  const config::Config resolved_before = resolved(before);
  const config::Config resolved_after = resolved(after);
  std::vector<std::string> differences;
  for (const Key& key : all_keys()) {
    const std::string old_value = key.value_text(resolved_before);
    const std::string new_value = key.value_text(resolved_after);
    if (old_value == new_value) continue;
    differences.push_back(fmt::format("{}: {} -> {}", key.name(), old_value, new_value));
  }
  return differences;
}

}  // namespace longscan
