#include "base/error.h"

#include "base/utf8.h"

namespace fettle {

std::string_view error_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return "E_USAGE";
    case ErrorCode::kInput:
      return "E_INPUT";
    case ErrorCode::kResource:
      return "E_RESOURCE";
    case ErrorCode::kIo:
      return "E_IO";
    case ErrorCode::kRemote:
      return "E_REMOTE";
    case ErrorCode::kNumeric:
      return "E_NUMERIC";
    case ErrorCode::kCancelled:
      return "E_CANCELLED";
    case ErrorCode::kInternal:
      return "E_INTERNAL";
  }
  return "E_INTERNAL";
}

int exit_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kUsage:
      return 2;
    case ErrorCode::kInput:
      return 3;
    case ErrorCode::kResource:
      return 4;
    case ErrorCode::kIo:
      return 5;
    case ErrorCode::kRemote:
      return 6;
    case ErrorCode::kNumeric:
      return 7;
    case ErrorCode::kCancelled:
      return 130;
    case ErrorCode::kInternal:
      return 70;
  }
  return 70;
}

void throw_error(ErrorCode code, std::string message) { throw Error(code, message); }

namespace {

bool hidden_code_point(char32_t cp) {
  return cp < 0x20 || (cp >= 0x7F && cp < 0xA0) || (cp >= 0x200B && cp <= 0x200F) || (cp >= 0x2028 && cp <= 0x202E) ||
         (cp >= 0x2060 && cp <= 0x2069) || cp == 0xFEFF;
}

}  // namespace

std::string printable(std::string_view untrusted, size_t max_bytes) {
  std::string out;
  for (size_t pos = 0; pos < untrusted.size();) {
    if (out.size() >= max_bytes) {
      out += "...";
      break;
    }
    const utf8::Decoded d = utf8::decode(untrusted, pos);
    if (!d.valid || hidden_code_point(d.code_point)) {
      for (size_t i = 0; i < d.length; ++i)
        out += fmt::format("\\x{:02X}", static_cast<unsigned char>(untrusted[pos + i]));
    } else {
      out += untrusted.substr(pos, d.length);
    }
    pos += d.length;
  }
  return out;
}

void check_failed(const char* file, int line, const char* expression, std::string detail) {
  throw_error(ErrorCode::kInternal,
              fmt::format("{}:{}: check failed: {}{}{}", file, line, expression, detail.empty() ? "" : ": ", detail));
}

}  // namespace fettle
