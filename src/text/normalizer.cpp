#include "text/normalizer.h"

#include "base/error.h"
#include "base/utf8.h"
#include "text/added_tokens.h"
#include "text/byte_alphabet.h"
#include "text/regex.h"

namespace fettle::text {
namespace {

using namespace unicode;  // class bits and predicates

// Rebuilds a text character by character: visit(code point, bytes of the character, out).
template <typename Visit>
std::string map_characters(std::string_view text, const Visit& visit) {
  std::string out;
  out.reserve(text.size());
  for (size_t pos = 0; pos < text.size();) {
    const utf8::Decoded d = utf8::decode(text, pos);
    visit(d.code_point, text.substr(pos, d.length), out);
    pos += d.length;
  }
  return out;
}

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(Form form) : form_(form) {}
  std::string apply(std::string text) const override { return unicode::normalize(text, form_); }

 private:
  Form form_;
};

class Lowercase : public Normalizer {
 public:
  std::string apply(std::string text) const override { return lowercase(text); }
};

class StripAccents : public Normalizer {
 public:
  std::string apply(std::string text) const override {
    return map_characters(text, [](char32_t c, std::string_view bytes, std::string& out) {
      if (!(classes(c) & kMark)) out += bytes;
    });
  }
};

class Strip : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  std::string apply(std::string text) const override {
    size_t begin = text.size(), end = 0;  // of the part between the white space on both sides
    for (size_t pos = 0; pos < text.size();) {
      const utf8::Decoded d = utf8::decode(text, pos);
      if (!is_space(d.code_point)) {
        begin = std::min(begin, pos);
        end = pos + d.length;
      }
      pos += d.length;
    }
    if (end == 0) return left_ || right_ ? std::string() : text;
    if (!left_) begin = 0;
    if (!right_) end = text.size();
    return text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string apply(std::string text) const override { return text.empty() ? text : prefix_ + text; }

 private:
  std::string prefix_;
};

class ReplaceString : public Normalizer {
 public:
  ReplaceString(std::string pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::string apply(std::string text) const override {
    if (pattern_.empty()) return text;
    std::string out;
    size_t from = 0;
    for (size_t at = text.find(pattern_); at != std::string::npos; at = text.find(pattern_, from)) {
      out.append(text, from, at - from);
      out += content_;
      from = at + pattern_.size();
    }
    if (from == 0) return text;
    out.append(text, from, std::string::npos);
    return out;
  }

 private:
  std::string pattern_, content_;
};

class ReplaceRegex : public Normalizer {
 public:
  ReplaceRegex(std::string_view pattern, std::string content, std::string_view source)
      : regex_(pattern, source), content_(std::move(content)) {}
  std::string apply(std::string text) const override {
    std::string out;
    size_t from = 0;
    for (const Range& m : regex_.find_all(text)) {
      out.append(text, from, m.begin - from);
      out += content_;
      from = m.end;
    }
    out.append(text, from, std::string::npos);
    return out;
  }

 private:
  Regex regex_;
  std::string content_;
};

// The ranges of the original BERT code, in which U+2B820 - U+2B91F is missing.
bool is_bert_chinese(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

class BertNormalizer : public Normalizer {
 public:
  explicit BertNormalizer(const BertNormalizerOptions& options) : options_(options) {}
  std::string apply(std::string text) const override {
    if (options_.clean_text)
      text = map_characters(text, [](char32_t c, std::string_view bytes, std::string& out) {
        if (is_space(c) && (c == '\t' || c == '\n' || c == '\r' || !(classes(c) & kOther)))
          out += ' ';
        else if (c != 0 && c != 0xFFFD && !(classes(c) & kOther))
          out += bytes;
      });
    if (options_.handle_chinese_chars)
      text = map_characters(text, [](char32_t c, std::string_view bytes, std::string& out) {
        if (is_bert_chinese(c)) out += ' ';
        out += bytes;
        if (is_bert_chinese(c)) out += ' ';
      });
    if (options_.strip_accents)
      text = map_characters(unicode::normalize(text, Form::kNfd),
                            [](char32_t c, std::string_view bytes, std::string& out) {
                              if (!(classes(c) & kNonspacingMark)) out += bytes;
                            });
    return options_.lowercase ? lowercase(text) : text;
  }

 private:
  BertNormalizerOptions options_;
};

// Clean-up rules of the nmt_* normalizations of SentencePiece.
class Nmt : public Normalizer {
 public:
  std::string apply(std::string text) const override {
    return map_characters(text, [](char32_t c, std::string_view bytes, std::string& out) {
      if ((c >= 0x01 && c <= 0x08) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F)
        return;
      if (c == 0x09 || c == 0x0A || c == 0x0C || c == 0x0D || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
          c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD)
        out += ' ';
      else
        out += bytes;
    });
  }
};

class ByteLevelNormalizer : public Normalizer {
 public:
  std::string apply(std::string text) const override { return byte_alphabet::encode(text); }
};

class Precompiled : public Normalizer {
 public:
  explicit Precompiled(std::shared_ptr<const Charsmap> charsmap) : charsmap_(std::move(charsmap)) {}
  std::string apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    Graphemes graphemes(text);
    for (std::string_view cluster; graphemes.next(&cluster);) {
      if (cluster.size() < 6) {
        if (const auto m = charsmap_->shortest(cluster)) {
          out += m->replacement;
          continue;
        }
      }
      out += map_characters(cluster, [this](char32_t, std::string_view bytes, std::string& into) {
        const auto m = charsmap_->shortest(bytes);
        into += m ? m->replacement : bytes;
      });
    }
    return out;
  }

 private:
  std::shared_ptr<const Charsmap> charsmap_;
};

class SentencePieceNormalizer : public Normalizer {
 public:
  explicit SentencePieceNormalizer(SentencePieceNormalizerOptions options) : options_(std::move(options)) {
    for (const std::string& piece : options_.keep) keep_.add(AddedToken{}, piece);
  }
  std::string apply(std::string text) const override {
    std::string mapped;
    if (!options_.charsmap) {
      mapped = std::move(text);
    } else {
      for (const auto& part : keep_.split(text, {})) {
        const std::string_view piece = std::string_view(text).substr(part.begin, part.end - part.begin);
        mapped += part.id < 0 ? map(piece) : std::string(piece);
      }
    }
    if (options_.remove_extra_whitespaces) mapped = squeeze(mapped);
    if (mapped.empty()) return mapped;
    if (options_.add_dummy_prefix) mapped.insert(0, 1, ' ');
    if (!options_.escape_whitespaces) return mapped;
    std::string out;
    out.reserve(mapped.size() + mapped.size() / 2);
    for (char c : mapped) {
      if (c == ' ')
        out += "\xE2\x96\x81";
      else
        out += c;
    }
    return out;
  }

 private:
  std::string map(std::string_view text) const {
    std::string out;
    out.reserve(text.size());
    for (size_t pos = 0; pos < text.size();) {
      if (const auto m = options_.charsmap->longest(text.substr(pos))) {
        out += m->replacement;
        pos += m->length;
      } else {
        const size_t length = utf8::decode(text, pos).length;
        out += text.substr(pos, length);
        pos += length;
      }
    }
    // A key of a damaged table may end inside a character.
    return utf8::is_valid(out) ? out : utf8::sanitize(out);
  }
  // Drops spaces at both ends and all but one of a run.
  static std::string squeeze(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    for (char c : text)
      if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
    if (!out.empty() && out.back() == ' ') out.pop_back();
    return out;
  }

  SentencePieceNormalizerOptions options_;
  AddedTokenMatcher keep_;
};

}  // namespace

std::string NormalizerSequence::apply(std::string text) const {
  const size_t limit = 8 * text.size() + (size_t{1} << 20), before = text.size();
  for (const auto& step : steps_) {
    text = step->apply(std::move(text));
    if (text.size() > limit)
      fail(ErrorCode::kResource, "normalizer turns {} bytes of text into {}; the limit is {}", before, text.size(),
           limit);
  }
  return text;
}

std::unique_ptr<Normalizer> make_unicode_form(Form form) { return std::make_unique<UnicodeForm>(form); }
std::unique_ptr<Normalizer> make_lowercase() { return std::make_unique<Lowercase>(); }
std::unique_ptr<Normalizer> make_strip_accents() { return std::make_unique<StripAccents>(); }
std::unique_ptr<Normalizer> make_strip(bool left, bool right) { return std::make_unique<Strip>(left, right); }
std::unique_ptr<Normalizer> make_prepend(std::string prefix) { return std::make_unique<Prepend>(std::move(prefix)); }
std::unique_ptr<Normalizer> make_replace_string(std::string pattern, std::string content) {
  return std::make_unique<ReplaceString>(std::move(pattern), std::move(content));
}
std::unique_ptr<Normalizer> make_replace_regex(std::string_view pattern, std::string content, std::string_view source) {
  return std::make_unique<ReplaceRegex>(pattern, std::move(content), source);
}
std::unique_ptr<Normalizer> make_bert_normalizer(const BertNormalizerOptions& options) {
  return std::make_unique<BertNormalizer>(options);
}
std::unique_ptr<Normalizer> make_nmt() { return std::make_unique<Nmt>(); }
std::unique_ptr<Normalizer> make_byte_level_normalizer() { return std::make_unique<ByteLevelNormalizer>(); }
std::unique_ptr<Normalizer> make_precompiled(std::shared_ptr<const Charsmap> charsmap) {
  return std::make_unique<Precompiled>(std::move(charsmap));
}
std::unique_ptr<Normalizer> make_sentencepiece_normalizer(SentencePieceNormalizerOptions options) {
  return std::make_unique<SentencePieceNormalizer>(std::move(options));
}

}  // namespace fettle::text
