// SHA-256 is libcrypto's; what is ours is that its failures are errors.
#include "io/sha256.h"

#include <openssl/evp.h>

#include <vector>

#include "io/atomic_file.h"
#include "kernels/error.h"

namespace longscan {

namespace {

void require_success(int status, const char* call) {
  if (status == 1) return;
  throw Error(ErrorKind::internal, {.what = "SHA-256 cannot be computed",
                                    .why = fmt::format("{} of libcrypto failed", call),
                                    .hint = "check that OpenSSL's default provider is installed"});
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  require_success(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr), "EVP_DigestInit_ex");
}

void Sha256::update(const void* data, std::size_t bytes) {
  require_success(EVP_DigestUpdate(context_.get(), data, bytes), "EVP_DigestUpdate");
}

std::string Sha256::hex_digest() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int bytes = 0;
  require_success(EVP_DigestFinal_ex(context_.get(), digest, &bytes), "EVP_DigestFinal_ex");
  std::string text;
  for (unsigned int i = 0; i < bytes; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

std::string sha256_of(std::string_view text) {
  Sha256 sha256;
  sha256.update(text);
  return sha256.hex_digest();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  const FileDescriptor file = FileDescriptor::open_for_reading(path);
  Sha256 sha256;
  std::vector<char> block(1 << 20);
  while (const std::size_t bytes = file.read(block.data(), block.size())) {
    sha256.update(block.data(), bytes);
  }
  return sha256.hex_digest();
}

}  // namespace longscan
