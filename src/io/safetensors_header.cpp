#include "io/safetensors_header.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "base/error.h"
#include "base/utf8.h"

namespace fettle::io {
namespace {

constexpr size_t kMaxTensors = 1'000'000;
constexpr size_t kMaxMetadata = 65'536;
constexpr size_t kMaxNameBytes = 1024;
constexpr size_t kMaxRank = 8;
constexpr int kMaxDepth = 32;

// State machine over the parse events of {"name": {"dtype": s, "shape": [..], "data_offsets": [b, e]}, ...}.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderEvents(const std::string& path) : path_(path) {}

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("boolean"); }
  bool number_integer(number_integer_t v) override { return scalar(fmt::format("integer {}", v)); }
  bool number_unsigned(number_unsigned_t v) override {
    if (skip_depth_ > 0) return true;
    if (place_ != Place::kShape && place_ != Place::kOffsets) return scalar(fmt::format("integer {}", v));
    if (place_ == Place::kOffsets) {
      if (n_offsets_ == 2) refuse_field("two integers", "more");
      (n_offsets_++ == 0 ? entry_.begin : entry_.end) = v;
    } else {
      if (entry_.shape.size() == kMaxRank) refuse_field(fmt::format("at most {} dimensions", kMaxRank), "more");
      entry_.shape.push_back(v);
    }
    return true;
  }
  // Also inside values that are skipped: one notion of well-formed JSON (base/json.h).
  bool number_float(number_float_t v, const string_t& text) override {
    if (!std::isfinite(v)) fail(ErrorCode::kInput, "{}: header: number {} is out of range", path_, printable(text, 40));
    if (text.find_first_of(".eE") == std::string::npos)
      fail(ErrorCode::kInput, "{}: header: integer {} does not fit 64 bits", path_, printable(text, 40));
    return scalar("number " + printable(text, 40));
  }
  bool string(string_t& v) override;
  bool binary(binary_t&) override { return scalar("binary"); }
  bool start_object(std::size_t) override;
  bool key(string_t& v) override;
  bool end_object() override;
  bool start_array(std::size_t) override;
  bool end_array() override;
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail(ErrorCode::kInput, "{}: header: invalid JSON at byte {} of the header", path_, position);
  }

  RawSafetensorsHeader take() { return std::move(header_); }

 private:
  enum class Place { kStart, kTop, kMetadata, kEntry, kShape, kOffsets, kDone };

  std::string where() const {
    if (place_ == Place::kStart || place_ == Place::kTop) return "header";
    if (place_ == Place::kMetadata) return "header: __metadata__";
    return fmt::format("tensor \"{}\"", printable(entry_.name));
  }
  [[noreturn]] void refuse_field(std::string_view expected, std::string_view found) const {
    fail(ErrorCode::kInput, "{}: {}: {}: expected {}, found {}", path_, where(), printable(field_), expected, found);
  }
  std::string_view expected_here() const {
    switch (place_) {
      case Place::kStart:
        return "an object";
      case Place::kTop:
        return "an object with dtype, shape and data_offsets";
      case Place::kMetadata:
        return "a string";
      case Place::kShape:
        return "integers in [0, 2^64)";
      case Place::kOffsets:
        return "two integers in [0, 2^64)";
      default:
        return field_ == "dtype" ? "a string" : "an array of integers";
    }
  }
  bool known_field() const { return field_ == "dtype" || field_ == "shape" || field_ == "data_offsets"; }
  // A scalar that is wrong wherever it is looked at.
  bool scalar(const std::string& found) {
    if (skip_depth_ > 0 || (place_ == Place::kEntry && !known_field())) return true;
    refuse_field(expected_here(), found);
  }
  void refuse_duplicate(const std::string& key) const {
    fail(ErrorCode::kInput, "{}: {}: duplicate key \"{}\"", path_, where(), printable(key));
  }
  bool skip_container() {
    if (++skip_depth_ + 2 > kMaxDepth) fail(ErrorCode::kInput, "{}: header: nesting deeper than {}", path_, kMaxDepth);
    return true;
  }

  const std::string& path_;
  RawSafetensorsHeader header_;
  RawSafetensorsEntry entry_;
  Place place_ = Place::kStart;
  std::string field_ = "top level";
  int skip_depth_ = 0;                                            // inside the value of an unknown field
  std::unordered_set<std::string> seen_keys_;                     // of the metadata, or unknown ones of this entry
  std::vector<std::unordered_set<std::string>> skipped_objects_;  // keys of the objects open in a skipped value
  int n_offsets_ = 0;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false, has_metadata_ = false;
};

bool HeaderEvents::string(string_t& v) {
  if (skip_depth_ > 0) return true;
  if (place_ == Place::kMetadata) {
    if (header_.metadata.size() == kMaxMetadata)
      fail(ErrorCode::kInput, "{}: header: __metadata__: more than {} entries", path_, kMaxMetadata);
    header_.metadata.emplace_back(field_, v);
    return true;
  }
  if (place_ == Place::kEntry && field_ == "dtype") {
    entry_.dtype = v;
    return true;
  }
  return scalar(fmt::format("string \"{}\"", printable(v, 40)));
}

bool HeaderEvents::start_object(std::size_t) {
  if (skip_depth_ > 0 || (place_ == Place::kEntry && !known_field())) {
    skipped_objects_.emplace_back();
    return skip_container();
  }
  seen_keys_.clear();
  if (place_ == Place::kStart) {
    place_ = Place::kTop;
  } else if (place_ == Place::kTop) {
    place_ = field_ == "__metadata__" ? Place::kMetadata : Place::kEntry;
    has_dtype_ = has_shape_ = has_offsets_ = false;
  } else {
    refuse_field(expected_here(), "an object");
  }
  return true;
}

bool HeaderEvents::key(string_t& v) {
  if (skip_depth_ > 0) {
    if (!skipped_objects_.back().insert(v).second) refuse_duplicate(v);
    return true;
  }
  field_ = v;
  if (place_ == Place::kTop) {
    if (v == "__metadata__") {
      if (has_metadata_) fail(ErrorCode::kInput, "{}: header: duplicate key \"__metadata__\"", path_);
      has_metadata_ = true;
      return true;
    }
    if (v.size() > kMaxNameBytes)
      fail(ErrorCode::kInput, "{}: header: tensor name of {} bytes, at most {} allowed: \"{}\"", path_, v.size(),
           kMaxNameBytes, printable(v, 60));
    if (header_.entries.size() == kMaxTensors)
      fail(ErrorCode::kInput, "{}: header: more than {} tensors", path_, kMaxTensors);
    entry_ = {};
    entry_.name = v;
  } else if (place_ == Place::kEntry) {
    bool* seen = v == "dtype"          ? &has_dtype_
                 : v == "shape"        ? &has_shape_
                 : v == "data_offsets" ? &has_offsets_
                                       : nullptr;
    if (seen ? *seen : !seen_keys_.insert(v).second) refuse_duplicate(v);
    if (seen) *seen = true;
  } else if (place_ == Place::kMetadata && !seen_keys_.insert(v).second) {
    refuse_duplicate(v);
  }
  return true;
}

bool HeaderEvents::end_object() {
  if (skip_depth_ > 0) {
    skipped_objects_.pop_back();
    --skip_depth_;
    return true;
  }
  if (place_ == Place::kEntry) {
    const char* missing = !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : !has_offsets_ ? "data_offsets" : nullptr;
    if (missing) fail(ErrorCode::kInput, "{}: {}: {}: missing", path_, where(), missing);
    header_.entries.push_back(std::move(entry_));
  }
  place_ = place_ == Place::kTop ? Place::kDone : Place::kTop;
  return true;
}

bool HeaderEvents::start_array(std::size_t) {
  if (skip_depth_ > 0 || (place_ == Place::kEntry && !known_field())) return skip_container();
  if (place_ != Place::kEntry || field_ == "dtype") refuse_field(expected_here(), "an array");
  n_offsets_ = 0;
  place_ = field_ == "shape" ? Place::kShape : Place::kOffsets;
  return true;
}

bool HeaderEvents::end_array() {
  if (skip_depth_ > 0) {
    --skip_depth_;
    return true;
  }
  if (place_ == Place::kOffsets && n_offsets_ != 2) refuse_field("two integers", fmt::format("{}", n_offsets_));
  place_ = Place::kEntry;
  return true;
}

}  // namespace

RawSafetensorsHeader parse_safetensors_json(std::string_view text, const std::string& path) {
  if (text.empty() || text[0] != '{')
    fail(ErrorCode::kInput, "{}: header: expected '{{' as first byte, found \"{}\"", path,
         printable(text.substr(0, 8)));
  if (const size_t bad = utf8::first_invalid(text); bad != std::string_view::npos)
    fail(ErrorCode::kInput, "{}: header: invalid UTF-8 at byte {} of the header", path, bad);
  HeaderEvents events(path);
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  return events.take();
}

}  // namespace fettle::io
