// SHA-256 of bytes that come in pieces: the fingerprint of checkpoints, configurations and token
// stores.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX, so that users of this header need no OpenSSL headers

namespace longscan {

class Sha256 {
 public:
  /// Throws internal when libcrypto refuses the algorithm.
  Sha256();

  void update(const void* data, std::size_t bytes);
  void update(std::string_view text) { update(text.data(), text.size()); }

  /// The digest of everything so far as 64 lower-case hexadecimal digits. Ends the stream: call it
  /// once.
  std::string hex_digest();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

/// The digest of one piece of text.
std::string sha256_of(std::string_view text);

/// The digest of a file's contents. Throws missing when there is no such file, io when it cannot be
/// read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace longscan
