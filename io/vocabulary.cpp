// Letters to tokens and back.
#include "io/vocabulary.h"

#include "kernels/error.h"

namespace longscan {

Vocabulary::Vocabulary(std::string name, std::string letters)
    : name_(std::move(name)), letters_(std::move(letters)) {
  token_of_.fill(-1);
  for (std::int32_t token = 0; token < letter_count(); ++token) {
    token_of_[static_cast<unsigned char>(letters_[token])] = token;
  }
}

Vocabulary Vocabulary::protein() {
  return {"protein", "ACDEFGHIKLMNPQRSTVWYBJOUXZ"};
}

Vocabulary Vocabulary::bytes() {
  std::string letters(256, '\0');
  for (int byte = 0; byte < 256; ++byte) letters[byte] = static_cast<char>(byte);
  return {"bytes", std::move(letters)};
}

Vocabulary Vocabulary::named(std::string_view name) {
  if (name == "protein") return protein();
  if (name == "bytes") return bytes();
  throw Error(ErrorKind::usage, {.what = fmt::format("there is no vocabulary '{}'", name),
                                 .hint = "there are 'protein' and 'bytes'"});
}

std::string Vocabulary::decode(std::int32_t token) const {
  if (token >= 0 && token < letter_count()) return std::string(1, letters_[token]);
  if (token == pad()) return "<pad>";
  if (token == begin()) return "<begin>";
  if (token == end()) return "<end>";
  if (token == mask()) return "<mask>";
  throw Error(ErrorKind::internal,
              {.what = fmt::format("token {} is not in the vocabulary '{}'", token, name_),
               .why = fmt::format("it has {} tokens", size())});
}

std::string Vocabulary::decode(std::span<const std::int32_t> tokens) const {
  std::string text;
  for (const std::int32_t token : tokens) text += decode(token);
  return text;
}

}  // namespace longscan
