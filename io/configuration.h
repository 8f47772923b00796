// The configuration of a run: read from text, overridden key by key, filled up with defaults,
// checked, compared.
//
// Keys are written with dots, as in `model.attention.kind`. All errors are of kind usage and name
// the key, except for a file that cannot be read.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "io/config.pb.h"

namespace longscan {

/// Parses Protobuf text format. Throws missing or io when the file cannot be read, usage with
/// FILE:LINE:COLUMN when its text is wrong: an unknown key or value (with a suggestion), a wrong
/// type, a number out of range, a key twice.
config::Config read_configuration(const std::filesystem::path& file);

/// The same for a text; `name` stands in for the file in error messages.
config::Config configuration_from_text(std::string_view text, const std::string& name);

/// Sets one key: "model.width=512". Text takes everything behind the first `=` as it stands,
/// without quotes.
void apply_override(config::Config& configuration, std::string_view assignment);

/// The same configuration with every key set explicitly, to its default where it was not set.
config::Config resolved(const config::Config& configuration);

/// The resolved configuration as Protobuf text format; `configuration_from_text` reads it back
/// exactly.
std::string to_text(const config::Config& configuration);

/// What each layer attends with: model.attention, with what model.layer_override sets in its place.
/// Throws usage when an override names no layer, or one that is not there or has another override.
std::vector<config::Attention> attention_of_layers(const config::Model& model);

/// Throws usage when a value breaks a rule, naming the key, the value and the rule. It does not ask
/// whether `data.store` is there: not every verb reads one.
void validate(const config::Config& configuration);

/// SHA-256 (hexadecimal) of the resolved configuration. `parallel.threads` is left out: it may
/// differ between the ranks and launches of one run.
std::string hash_of(const config::Config& configuration);

/// "model.width: 256 -> 512" for each key in which the resolved configurations differ, in the order
/// of the keys.
std::vector<std::string> config_differences(const config::Config& before,
                                            const config::Config& after);

}  // namespace longscan
