#include "text/pre_tokenizer.h"

#include <functional>
#include <limits>

#include "base/error.h"
#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/unicode.h"

namespace fettle::text {
namespace {

using Piece = PieceList::Piece;

// A stretch of a piece that the pattern matched or left out; offsets within the piece.
struct Part {
  size_t begin, end;
  bool match;
};

// Replaces the pieces of a list one by one.
class Rebuild {
 public:
  explicit Rebuild(PieceList& list) : list_(list) { kept_.reserve(list.pieces.size() * 2); }
  void keep(const Piece& from, size_t begin, size_t end) {
    if (begin == end) return;
    kept_.push_back({static_cast<uint32_t>(from.begin + begin), static_cast<uint32_t>(from.begin + end),
                     from.at_start && begin == 0});
  }
  void finish() { list_.pieces = std::move(kept_); }

 private:
  PieceList& list_;
  std::vector<Piece> kept_;
};

// Groups matches and gaps as the Hugging Face SplitDelimiterBehavior of the same name does.
void keep_parts(Rebuild& rebuild, const Piece& piece, const std::vector<Part>& parts, SplitBehavior behavior) {
  std::vector<Range> groups;
  bool previous_match = false;
  switch (behavior) {
    case SplitBehavior::kRemoved:
      for (const Part& p : parts)
        if (!p.match) groups.push_back({p.begin, p.end});
      break;
    case SplitBehavior::kIsolated:
      for (const Part& p : parts) groups.push_back({p.begin, p.end});
      break;
    case SplitBehavior::kContiguous:
      for (const Part& p : parts) {
        if (p.match == previous_match && !groups.empty())
          groups.back().end = p.end;
        else
          groups.push_back({p.begin, p.end});
        previous_match = p.match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& p : parts) {
        if (p.match && !previous_match && !groups.empty())
          groups.back().end = p.end;
        else
          groups.push_back({p.begin, p.end});
        previous_match = p.match;
      }
      break;
    case SplitBehavior::kMergedWithNext: {
      for (auto p = parts.rbegin(); p != parts.rend(); ++p) {
        if (p->match && !previous_match && !groups.empty())
          groups.back().begin = p->begin;
        else
          groups.push_back({p->begin, p->end});
        previous_match = p->match;
      }
      for (auto g = groups.rbegin(); g != groups.rend(); ++g) rebuild.keep(piece, g->begin, g->end);
      return;
    }
  }
  for (const Range& g : groups) rebuild.keep(piece, g.begin, g.end);
}

std::vector<Part> with_gaps(const std::vector<Range>& matches, size_t size, bool invert) {
  std::vector<Part> parts;
  size_t at = 0;
  for (const Range& m : matches) {
    if (m.begin > at) parts.push_back({at, m.begin, invert});
    parts.push_back({m.begin, m.end, !invert});
    at = m.end;
  }
  if (at < size) parts.push_back({at, size, invert});
  return parts;
}

// Matches single characters for which a predicate holds.
class CharacterSplit : public PreTokenizer {
 public:
  CharacterSplit(bool (*predicate)(char32_t), SplitBehavior behavior) : predicate_(predicate), behavior_(behavior) {}
  void apply(PieceList& list) const override {
    Rebuild rebuild(list);
    for (const Piece& piece : list.pieces) {
      const std::string_view text = list.view(piece);
      std::vector<Range> matches;
      for (size_t pos = 0; pos < text.size();) {
        const utf8::Decoded d = utf8::decode(text, pos);
        if (predicate_(d.code_point)) matches.push_back({pos, pos + d.length});
        pos += d.length;
      }
      keep_parts(rebuild, piece, with_gaps(matches, text.size(), false), behavior_);
    }
    rebuild.finish();
  }

 private:
  bool (*predicate_)(char32_t);
  SplitBehavior behavior_;
};

class RegexSplit : public PreTokenizer {
 public:
  RegexSplit(std::string_view pattern, SplitBehavior behavior, bool invert, std::string_view source)
      : regex_(pattern, source), behavior_(behavior), invert_(invert) {}
  void apply(PieceList& list) const override {
    Rebuild rebuild(list);
    for (const Piece& piece : list.pieces) {
      const std::string_view text = list.view(piece);
      keep_parts(rebuild, piece, with_gaps(regex_.find_all(text), text.size(), invert_), behavior_);
    }
    rebuild.finish();
  }

 private:
  Regex regex_;
  SplitBehavior behavior_;
  bool invert_;
};

class StringSplit : public PreTokenizer {
 public:
  StringSplit(std::string pattern, SplitBehavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void apply(PieceList& list) const override {
    Rebuild rebuild(list);
    for (const Piece& piece : list.pieces) {
      const std::string_view text = list.view(piece);
      std::vector<Range> matches;
      if (!pattern_.empty())
        for (size_t at = text.find(pattern_); at != std::string_view::npos;
             at = text.find(pattern_, at + pattern_.size()))
          matches.push_back({at, at + pattern_.size()});
      keep_parts(rebuild, piece, with_gaps(matches, text.size(), invert_), behavior_);
    }
    rebuild.finish();
  }

 private:
  std::string pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class KnownSplit : public PreTokenizer {
 public:
  explicit KnownSplit(KnownPattern pattern) : pattern_(pattern) {}
  void apply(PieceList& list) const override {
    Rebuild rebuild(list);
    for (const Piece& piece : list.pieces) {
      const std::string_view text = list.view(piece);
      for (size_t begin = 0; begin < text.size();) {
        const size_t end = next_piece_end(pattern_, text, begin);
        rebuild.keep(piece, begin, end);
        begin = end;
      }
    }
    rebuild.finish();
  }

 private:
  KnownPattern pattern_;
};

// Rebuilds the text piece by piece: rewrite(piece text, at_start) gives the new text of the piece.
template <typename Rewrite>
void rewrite_pieces(PieceList& list, const Rewrite& rewrite) {
  std::string out;
  out.reserve(list.text.size() + list.text.size() / 2);
  for (Piece& piece : list.pieces) {
    const auto begin = static_cast<uint32_t>(out.size());
    rewrite(list.view(piece), piece.at_start, out);
    if (out.size() > std::numeric_limits<uint32_t>::max() / 4)
      fail(ErrorCode::kResource, "pre-tokenised text exceeds {} bytes", std::numeric_limits<uint32_t>::max() / 4);
    piece.begin = begin;
    piece.end = static_cast<uint32_t>(out.size());
  }
  list.text = std::move(out);
}

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex, bool map_bytes)
      : add_prefix_space_(add_prefix_space), map_bytes_(map_bytes) {
    if (use_regex) split_ = std::make_unique<KnownSplit>(KnownPattern::kGpt2);
  }
  void apply(PieceList& list) const override {
    if (add_prefix_space_)
      rewrite_pieces(list, [](std::string_view piece, bool, std::string& out) {
        if (!piece.starts_with(' ')) out += ' ';
        out += piece;
      });
    if (split_) split_->apply(list);
    if (map_bytes_)
      rewrite_pieces(list, [](std::string_view piece, bool, std::string& out) { out += byte_alphabet::encode(piece); });
  }

 private:
  bool add_prefix_space_, map_bytes_;
  std::unique_ptr<KnownSplit> split_;
};

class Metaspace : public PreTokenizer {
 public:
  Metaspace(std::string replacement, PrependScheme prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend) {
    if (split) split_ = std::make_unique<StringSplit>(replacement_, SplitBehavior::kMergedWithNext, false);
  }
  void apply(PieceList& list) const override {
    rewrite_pieces(list, [this](std::string_view piece, bool at_start, std::string& out) {
      const bool wanted = prepend_ == PrependScheme::kAlways || (prepend_ == PrependScheme::kFirst && at_start);
      if (wanted && !piece.starts_with(' ') && !piece.starts_with(replacement_)) out += replacement_;
      for (char c : piece) {
        if (c == ' ')
          out += replacement_;
        else
          out += c;
      }
    });
    if (split_) split_->apply(list);
  }

 private:
  std::string replacement_;
  PrependScheme prepend_;
  std::unique_ptr<StringSplit> split_;
};

class UnicodeScripts : public PreTokenizer {
 public:
  void apply(PieceList& list) const override {
    Rebuild rebuild(list);
    for (const Piece& piece : list.pieces) {
      const std::string_view text = list.view(piece);
      int last = kNone;
      size_t begin = text.size();  // of the open piece; characters before the first one with a script are dropped
      for (size_t pos = 0; pos < text.size();) {
        const utf8::Decoded d = utf8::decode(text, pos);
        const int script = script_of(d.code_point);
        if (script != kAny && script != last) {
          if (begin < pos) rebuild.keep(piece, begin, pos);
          begin = pos;
        }
        if (script != kAny) last = script;
        pos += d.length;
      }
      rebuild.keep(piece, begin, text.size());
    }
    rebuild.finish();
  }

 private:
  static constexpr int kNone = -2, kAny = -1;
  // Japanese mixes Han and both kana in one word; a space, like a character without script, belongs to
  // whatever surrounds it.
  static int script_of(char32_t c) {
    static const int kHan = unicode::script(0x4E00), kHiragana = unicode::script(0x3042),
                     kKatakana = unicode::script(0x30A2);
    if (c == ' ') return kAny;
    if (c == 0x30FC) return kHan;
    const int s = unicode::script(c);
    return s == kHiragana || s == kKatakana ? kHan : s;
  }
};

class FixedLength : public PreTokenizer {
 public:
  explicit FixedLength(size_t characters) : characters_(characters) {}
  void apply(PieceList& list) const override {
    Rebuild rebuild(list);
    for (const Piece& piece : list.pieces) {
      const std::string_view text = list.view(piece);
      size_t begin = 0, pos = 0;
      for (size_t n = 0; pos < text.size();) {
        pos += utf8::decode(text, pos).length;
        if (++n < characters_) continue;
        rebuild.keep(piece, begin, pos);
        begin = pos;
        n = 0;
      }
      rebuild.keep(piece, begin, text.size());
    }
    rebuild.finish();
  }

 private:
  size_t characters_;
};

class Sequence : public PreTokenizer {
 public:
  explicit Sequence(std::vector<std::unique_ptr<PreTokenizer>> steps) : steps_(std::move(steps)) {}
  void apply(PieceList& list) const override {
    for (const auto& step : steps_) step->apply(list);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

// \w+|[^\w\s]+ of Rust's regex crate.
class WordsAndMarks : public PreTokenizer {
 public:
  void apply(PieceList& list) const override {
    Rebuild rebuild(list);
    enum Kind { kSpace, kWord, kMark };
    for (const Piece& piece : list.pieces) {
      const std::string_view text = list.view(piece);
      size_t begin = 0;
      Kind open = kSpace;
      for (size_t pos = 0; pos < text.size();) {
        const utf8::Decoded d = utf8::decode(text, pos);
        const Kind kind = unicode::is_space(d.code_point) ? kSpace : unicode::is_word(d.code_point) ? kWord : kMark;
        if (kind != open) {
          if (open != kSpace) rebuild.keep(piece, begin, pos);
          begin = pos;
          open = kind;
        }
        pos += d.length;
      }
      if (open != kSpace) rebuild.keep(piece, begin, text.size());
    }
    rebuild.finish();
  }
};

bool is_number(char32_t c) { return unicode::classes(c) & unicode::kNumber; }

}  // namespace

SplitBehavior parse_split_behavior(std::string_view name, std::string_view source) {
  if (name == "Removed" || name == "removed") return SplitBehavior::kRemoved;
  if (name == "Isolated" || name == "isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious" || name == "merged_with_previous") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext" || name == "merged_with_next") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous" || name == "contiguous") return SplitBehavior::kContiguous;
  fail(ErrorCode::kInput,
       "{}: expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous, found \"{}\"", source,
       printable(name));
}

std::unique_ptr<PreTokenizer> make_sequence(std::vector<std::unique_ptr<PreTokenizer>> steps) {
  if (steps.empty()) return nullptr;
  if (steps.size() == 1) return std::move(steps.front());
  return std::make_unique<Sequence>(std::move(steps));
}
std::unique_ptr<PreTokenizer> make_regex_split(std::string_view pattern, SplitBehavior behavior, bool invert,
                                               std::string_view source) {
  // The known patterns leave no gaps, so that inverting Removed and keeping matches alone is the same as Isolated.
  if (const auto known = recognise_pattern(pattern))
    if ((behavior == SplitBehavior::kIsolated) || (behavior == SplitBehavior::kRemoved && invert))
      return make_known_split(*known);
  return std::make_unique<RegexSplit>(pattern, behavior, invert, source);
}
std::unique_ptr<PreTokenizer> make_string_split(std::string pattern, SplitBehavior behavior, bool invert) {
  return std::make_unique<StringSplit>(std::move(pattern), behavior, invert);
}
std::unique_ptr<PreTokenizer> make_known_split(KnownPattern pattern) { return std::make_unique<KnownSplit>(pattern); }
std::unique_ptr<PreTokenizer> make_byte_level(bool add_prefix_space, bool use_regex, bool map_bytes) {
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex, map_bytes);
}
std::unique_ptr<PreTokenizer> make_metaspace(std::string replacement, PrependScheme prepend, bool split) {
  return std::make_unique<Metaspace>(std::move(replacement), prepend, split);
}
std::unique_ptr<PreTokenizer> make_digits(bool individual) {
  return std::make_unique<CharacterSplit>(&is_number,
                                          individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
}
std::unique_ptr<PreTokenizer> make_punctuation(SplitBehavior behavior) {
  return std::make_unique<CharacterSplit>(&unicode::is_bert_punctuation, behavior);
}
std::unique_ptr<PreTokenizer> make_whitespace() { return std::make_unique<WordsAndMarks>(); }
std::unique_ptr<PreTokenizer> make_whitespace_split() {
  return std::make_unique<CharacterSplit>(&unicode::is_space, SplitBehavior::kRemoved);
}
std::unique_ptr<PreTokenizer> make_bert_pre_tokenizer() {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  steps.push_back(make_whitespace_split());
  steps.push_back(make_punctuation(SplitBehavior::kIsolated));
  return make_sequence(std::move(steps));
}
std::unique_ptr<PreTokenizer> make_unicode_scripts() { return std::make_unique<UnicodeScripts>(); }
std::unique_ptr<PreTokenizer> make_fixed_length(size_t characters) { return std::make_unique<FixedLength>(characters); }

}  // namespace fettle::text
