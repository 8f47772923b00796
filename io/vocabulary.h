// The tokens of a corpus: its letters first, then four special tokens.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace longscan {

class Vocabulary {
 public:
  /// The 20 amino acids ACDEFGHIKLMNPQRSTVWY, then B J O U X Z, which are tokens of their own as in
  /// Performer's protein models: 26 letters, 30 tokens.
  static Vocabulary protein();
  /// Every byte is a letter: 256 letters, 260 tokens.
  static Vocabulary bytes();
  /// "protein" or "bytes". Throws usage for another name.
  static Vocabulary named(std::string_view name);

  const std::string& name() const { return name_; }
  /// Byte `letters()[t]` is the letter of token t.
  const std::string& letters() const { return letters_; }
  /// Number of tokens, the special ones included; tokens are 0 .. size() - 1.
  std::int64_t size() const { return letter_count() + 4; }

  std::int32_t pad() const { return letter_count(); }        ///< fills up the last window
  std::int32_t begin() const { return letter_count() + 1; }  ///< stands before the first token
  std::int32_t end() const { return letter_count() + 2; }    ///< follows every record
  std::int32_t mask() const { return letter_count() + 3; }   ///< hides a token from the model

  /// The token of a letter, -1 when it has none. Lower-case letters are letters of their own.
  std::int32_t encode(char letter) const { return token_of_[static_cast<unsigned char>(letter)]; }

  /// The text of a token: its letter, or "<pad>", "<begin>", "<end>", "<mask>". Throws internal
  /// when the token is not in the vocabulary.
  std::string decode(std::int32_t token) const;
  std::string decode(std::span<const std::int32_t> tokens) const;

 private:
  Vocabulary(std::string name, std::string letters);

  std::int32_t letter_count() const { return static_cast<std::int32_t>(letters_.size()); }

  std::string name_;
  std::string letters_;
  std::array<std::int32_t, 256> token_of_{};
};

}  // namespace longscan
