#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace fettle::compress {

// SHA-256 of a stream of bytes (OpenSSL).
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  void update(std::span<const std::byte> bytes);
  std::string hex();  // lower case, 64 digits; ends the stream

 private:
  struct Free {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Free> context_;
};

// Of a whole file. Throws kIo / kInput as MappedFile does.
std::string sha256_file(const std::string& path);

}  // namespace fettle::compress
