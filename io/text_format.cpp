// Protobuf parses and prints; its complaints become messages with a place and a suggestion.
#include "io/text_format.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <vector>

#include "io/configuration_keys.h"
#include "kernels/error.h"

namespace longscan {

namespace {

using google::protobuf::Message;
using google::protobuf::TextFormat;

/// Remembers where and why parsing stopped.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (!message_.empty()) return;
    line_ = line;
    column_ = column;
    message_ = message;
  }

  int line() const { return line_; }
  int column() const { return column_; }
  const std::string& message() const { return message_; }

 private:
  int line_ = 0;
  int column_ = 0;
  std::string message_;
};

/// The parts of `message` between double quotes: Protobuf quotes the names it speaks of.
std::vector<std::string> quoted_parts(const std::string& message) {
  std::vector<std::string> parts;
  std::size_t begin = message.find('"');
  while (begin != std::string::npos) {
    const std::size_t end = message.find('"', begin + 1);
    if (end == std::string::npos) break;
    parts.push_back(message.substr(begin + 1, end - begin - 1));
    begin = message.find('"', end + 1);
  }
  return parts;
}

/// Where in `text` Protobuf's line and column lie. Both count from 0, and a tab reaches to the next
/// multiple of 8.
std::size_t offset_of(std::string_view text, int line, int column) {
  std::size_t offset = 0;
  for (; line > 0 && text.find('\n', offset) != std::string_view::npos; --line) {
    offset = text.find('\n', offset) + 1;
  }
  for (int at = 0; at < column && offset < text.size(); ++offset) {
    at += text[offset] == '\t' ? 8 - at % 8 : 1;
  }
  return offset;
}

/// LINE:COLUMN, both counted from 1 and a tab as one character, as editors do.
std::string place_of(std::string_view text, std::size_t offset) {
  const std::string_view before = text.substr(0, offset);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t line_begin = before.rfind('\n') + 1;  // npos + 1 is 0
  return fmt::format("{}:{}", line, 1 + offset - line_begin);
}

/// The line around `offset` without the blanks at its ends.
std::string line_around(std::string_view text, std::size_t offset) {
  const std::size_t begin = text.substr(0, offset).rfind('\n') + 1;
  std::string_view line = text.substr(begin, text.find_first_of("\r\n", begin) - begin);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return std::string(line.substr(0, line.find_last_not_of(" \t") + 1));
}

/// Protobuf's message in the words of this program, with a suggestion where there is one.
/// Of `text`, the first `lead` bytes are not the user's.
ErrorText explain(const FirstError& error, std::string_view text, std::size_t lead,
                  const std::string& file) {
  const std::string& message = error.message();
  const std::vector<std::string> names = quoted_parts(message);
  std::size_t offset = offset_of(text, error.line(), error.column());
  // Protobuf has read one word on when it refuses a name: go back to the name.
  const auto go_back_to = [&](const std::string& name) {
    const std::size_t found = text.rfind(name, offset);
    if (found != std::string_view::npos) offset = found;
  };
  ErrorText explanation;
  const std::string_view given = text.substr(lead);
  const auto within = [&] { return std::max(offset, lead) - lead; };
  if (message.starts_with("Message type ") && names.size() == 2) {
    go_back_to(names[1]);
    explanation = unknown_key(names[1], names[0]);
  } else if (message.starts_with("Unknown enumeration value of ") && names.size() == 2) {
    go_back_to(names[0]);
    explanation = unknown_value(names[0], names[1]);
  } else if (message.starts_with("Non-repeated field ") && names.size() == 1) {
    go_back_to(names[0]);
    explanation = {.what = fmt::format("'{}' is given twice", names[0]),
                   .why = "a key has one value",
                   .hint = "remove one of the two"};
  } else {
    explanation = {.what = fmt::format("cannot understand '{}'", line_around(given, within())),
                   .why = message.substr(0, message.find_last_not_of('.') + 1),
                   .hint = "the format is Protobuf's text format, as in `model { width: 256 }`"};
  }
  explanation.where = fmt::format("{}:{}", file, place_of(given, within()));
  return explanation;
}

}  // namespace

void parse_text_format(std::string_view text, const std::string& name, Message& message,
                       std::string_view lead) {
  const std::string whole = std::string(lead) + std::string(text);
  FirstError error;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (parser.ParseFromString(whole, &message)) return;
  throw Error(ErrorKind::usage, explain(error, whole, lead.size(), name));
}

std::string print_text_format(const Message& message, bool one_line) {
  std::string text;
  TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);  // lists of numbers in one line
  printer.SetSingleLineMode(one_line);
  printer.PrintToString(message, &text);
  if (text.ends_with(' ')) text.pop_back();  // behind the last word of one line
  return text;
}

}  // namespace longscan
