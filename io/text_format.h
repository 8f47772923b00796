// Protobuf's text format, with errors in the words of this program. Internal to `io`.
#pragma once

#include <google/protobuf/message.h>

#include <string>
#include <string_view>

namespace longscan {

/// Fills `message` from a text. Throws usage with NAME:LINE:COLUMN where the text is wrong. `lead`
/// is text that the parser reads first; places are counted behind it.
void parse_text_format(std::string_view text, const std::string& name,
                       google::protobuf::Message& message, std::string_view lead = {});

/// A text that `parse_text_format` reads back exactly; `one_line`: without line feeds.
std::string print_text_format(const google::protobuf::Message& message, bool one_line = false);

}  // namespace longscan
