#include "compress/sha256.h"

#include <openssl/evp.h>

#include "base/error.h"
#include "base/file.h"

namespace fettle::compress {

void Sha256::Free::operator()(void* context) const { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(context)); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (!context_ || EVP_DigestInit_ex(static_cast<EVP_MD_CTX*>(context_.get()), EVP_sha256(), nullptr) != 1)
    fail(ErrorCode::kInternal, "OpenSSL: SHA-256 is not available");
}
Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  if (EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), bytes.data(), bytes.size()) != 1)
    fail(ErrorCode::kInternal, "OpenSSL: SHA-256 update failed");
}

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), digest, &size) != 1)
    fail(ErrorCode::kInternal, "OpenSSL: SHA-256 failed");
  std::string out;
  for (unsigned int i = 0; i < size; ++i) out += fmt::format("{:02x}", digest[i]);
  return out;
}

std::string sha256_file(const std::string& path) {
  const auto file = MappedFile::open(path);
  Sha256 hash;
  // In pieces, so that the mapped pages of a large checkpoint can leave memory again.
  constexpr size_t kPiece = size_t{64} << 20;
  for (std::span<const std::byte> rest = file->bytes(); !rest.empty();) {
    const auto piece = rest.first(std::min(kPiece, rest.size()));
    hash.update(piece);
    file->drop(piece);
    rest = rest.subspan(piece.size());
  }
  return hash.hex();
}

}  // namespace fettle::compress
