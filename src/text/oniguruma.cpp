#include "base/error.h"
#include "text/regex.h"
#include "text/unicode.h"

namespace fettle::text {
namespace {

// White_Space without brackets, and its complement.
constexpr std::string_view kSpaces =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr std::string_view kNotSpaces =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{D7FF}\x{E000}-\x{10FFFF})";
// Oniguruma classifies U+0080 - U+00FF by a Latin-1 table of its own, which counts superscripts and fractions as words.
constexpr std::string_view kWords = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
constexpr std::string_view kHexDigits = "0-9a-fA-F";
constexpr std::string_view kNotHexDigits = R"(\x{0}-/:-@G-`g-\x{D7FF}\x{E000}-\x{10FFFF})";

struct PropertyName {
  std::string_view onig, pcre;
};
// Long names of general categories, which PCRE2 10.42 does not know.
constexpr PropertyName kProperties[] = {
    {"Letter", "L"},
    {"Mark", "M"},
    {"Number", "N"},
    {"Punctuation", "P"},
    {"Symbol", "S"},
    {"Separator", "Z"},
    {"Other", "C"},
    {"Uppercase_Letter", "Lu"},
    {"Lowercase_Letter", "Ll"},
    {"Titlecase_Letter", "Lt"},
    {"Modifier_Letter", "Lm"},
    {"Other_Letter", "Lo"},
    {"Nonspacing_Mark", "Mn"},
    {"Spacing_Mark", "Mc"},
    {"Decimal_Number", "Nd"},
    {"Letter_Number", "Nl"},
    {"Other_Number", "No"},
    {"Alpha", "Alphabetic"},
    {"Upper", "Uppercase"},
    {"Lower", "Lowercase"},
    {"Space", "White_Space"},
    {"Digit", "Nd"},
};

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view source) : in_(pattern), source_(source) {}

  std::string run() {
    while (pos_ < in_.size()) step();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail(ErrorCode::kInput, "{}: pattern \"{}\": {} at byte {} is not supported", source_, printable(in_), what, pos_);
  }
  char peek(size_t ahead = 0) const { return pos_ + ahead < in_.size() ? in_[pos_ + ahead] : '\0'; }

  void step() {
    const char c = in_[pos_];
    if (c == '\\') {
      atom_ = out_.size();
      escape(false);
    } else if (c == '[') {
      atom_ = out_.size();
      out_ += '[';
      ++pos_;
      if (peek() == '^') out_ += in_[pos_++];
      class_body(0);
      out_ += ']';
    } else if (c == '(') {
      open_group();
    } else if (c == ')') {
      if (!groups_.empty()) {
        atom_ = groups_.back();
        groups_.pop_back();
      }
      out_ += c;
      ++pos_;
    } else if (c == '{' && interval()) {
      return;
    } else {
      if (c != '*' && c != '+' && c != '?') atom_ = out_.size();
      copy_character();
    }
  }

  void open_group() {
    if (peek(1) == '?' && peek(2) == '~') refuse("the absence operator");
    if (peek(1) == '*') refuse("a callout");
    groups_.push_back(out_.size());
    out_ += '(';
    ++pos_;
    while (peek() == '?' || peek() == ':' || peek() == '!' || peek() == '=' || peek() == '<' || peek() == '>') {
      const bool done = peek() != '?' && peek() != '<';
      out_ += in_[pos_++];
      if (done) break;
    }
  }

  // {n}, {n,}, {n,m}, {,m}. Followed by '+', the whole repeat is repeated.
  bool interval() {
    size_t end = pos_ + 1;
    while (end < in_.size() && ((in_[end] >= '0' && in_[end] <= '9') || in_[end] == ',')) ++end;
    if (end >= in_.size() || in_[end] != '}' || end == pos_ + 1) return false;
    std::string text(in_.substr(pos_, end + 1 - pos_));
    if (text.starts_with("{,")) text.insert(1, "0");
    pos_ = end + 1;
    if (peek() == '+') {
      out_.insert(atom_, "(?:");
      out_ += text + ")";
    } else {
      out_ += text;
    }
    return true;
  }

  void copy_character() {
    out_ += in_[pos_++];
    while (pos_ < in_.size() && (static_cast<unsigned char>(in_[pos_]) & 0xC0) == 0x80) out_ += in_[pos_++];
  }

  // Everything up to and including the closing bracket; nested classes are unions and lose their brackets.
  void class_body(int depth) {
    if (depth > 20) refuse("a class nested deeper than 20");
    bool first = true;
    for (;; first = false) {
      if (pos_ >= in_.size()) refuse("a class without end");
      const char c = in_[pos_];
      if (c == ']' && !first) {
        ++pos_;
        return;
      }
      if (c == '&' && peek(1) == '&') refuse("class intersection");
      if (c == '[' && peek(1) == ':') {
        const size_t end = in_.find(":]", pos_ + 2);
        if (end == std::string_view::npos) refuse("an unfinished POSIX class");
        out_ += in_.substr(pos_, end + 2 - pos_);
        pos_ = end + 2;
      } else if (c == '[') {
        ++pos_;
        if (peek() == '^') refuse("a negated class inside a class");
        class_body(depth + 1);
      } else if (c == '\\') {
        escape(true);
      } else {
        if (c == ']') out_ += '\\';  // first in the class: a literal
        copy_character();
      }
    }
  }

  void add_class(std::string_view set, bool inside, bool negated) {
    if (inside)
      out_ += set;
    else
      out_ += std::string(negated ? "[^" : "[") + std::string(set) + "]";
  }

  void escape(bool inside) {
    const char c = peek(1);
    if (c == '\0') refuse("a trailing backslash");
    pos_ += 2;
    static const std::string kWord = "[" + std::string(kWords) + "]";
    switch (c) {
      case 's':
        return add_class(kSpaces, inside, false);
      case 'S':
        return inside ? add_class(kNotSpaces, true, false) : add_class(kSpaces, false, true);
      case 'w':
        return add_class(kWords, inside, false);
      case 'W':
        if (inside) refuse("\\W inside a class");
        return add_class(kWords, false, true);
      case 'h':
        return add_class(kHexDigits, inside, false);
      case 'H':
        return inside ? add_class(kNotHexDigits, true, false) : add_class(kHexDigits, false, true);
      case 'p':
      case 'P':
        return property(c);
      case 'b':
      case 'B':
        if (inside)
          out_ += "\\b";  // backspace
        else if (c == 'b')
          out_ += "(?:(?<=" + kWord + ")(?!" + kWord + ")|(?<!" + kWord + ")(?=" + kWord + "))";
        else
          out_ += "(?:(?<=" + kWord + ")(?=" + kWord + ")|(?<!" + kWord + ")(?!" + kWord + "))";
        return;
      case 'y':
      case 'Y':
      case 'K':
      case 'G':
      case 'g':
      case 'k':
      case 'O':
        refuse("this escape");
      default:
        out_ += '\\';
        --pos_;
        copy_character();
    }
  }

  void property(char kind) {
    if (peek() != '{') {
      out_ += '\\';
      out_ += kind;
      return;
    }
    const size_t end = in_.find('}', pos_);
    if (end == std::string_view::npos) refuse("an unfinished property");
    std::string_view name = in_.substr(pos_ + 1, end - pos_ - 1);
    bool negated = kind == 'P';
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    for (const PropertyName& p : kProperties)
      if (p.onig == name) name = p.pcre;
    out_ += negated ? "\\P{" : "\\p{";
    if (unicode::is_script_name(name)) out_ += "sc:";  // PCRE2 would also take the script extensions
    out_ += name;
    out_ += '}';
    pos_ = end + 1;
  }

  std::string_view in_, source_;
  size_t pos_ = 0;
  std::string out_;
  size_t atom_ = 0;             // where in out_ the last atom starts
  std::vector<size_t> groups_;  // where in out_ each open group starts
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern, std::string_view source) {
  return Translator(pattern, source).run();
}

}  // namespace fettle::text
