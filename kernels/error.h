// The one exception of the library: what went wrong, where, why, and what to do about it.
#pragma once

#include <fmt/format.h>

#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>

namespace longscan {

enum class ErrorKind { usage, data, missing, internal, io, stopped };

/// Exit status the program gives an error of this kind (the numbers of sysexits.h; 75 asks to be
/// resumed).
constexpr int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
      return 64;
    case ErrorKind::data:
      return 65;
    case ErrorKind::missing:
      return 66;
    case ErrorKind::internal:
      return 70;
    case ErrorKind::io:
      return 74;
    case ErrorKind::stopped:
      return 75;
  }
  return 70;
}

/// The parts of an error message; printed as `where: what, why, hint`.
struct ErrorText {
  std::string what{};  ///< what cannot be done or is wrong: "letter '4' is not an amino acid"
  std::string why{};   ///< the reason or the rule that was broken
  std::string hint{};  ///< what the user can do; may be empty
  /// FILE:LINE[:COLUMN] of the input at fault; empty: the line of source that throws.
  std::string where{};
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const ErrorText& text,
        std::source_location source = std::source_location::current())
      : std::runtime_error(compose(text, source)), kind_(kind) {}

  ErrorKind kind() const { return kind_; }

 private:
  static std::string compose(const ErrorText& text, const std::source_location& source) {
    std::string message = text.where;
    if (message.empty()) {
      std::string file = source.file_name();
      message = fmt::format("{}:{}", file.substr(file.find_last_of('/') + 1), source.line());
    }
    message += ": " + text.what;
    if (!text.why.empty()) message += ", " + text.why;
    if (!text.hint.empty()) message += ", " + text.hint;
    return message;
  }

  ErrorKind kind_;
};

}  // namespace longscan
