#include "text/decoder.h"

#include "base/error.h"
#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/models/bpe.h"
#include "text/regex.h"

namespace fettle::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string out;
  size_t from = 0;
  if (!pattern.empty())
    for (size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, from)) {
      out += text.substr(from, at - from);
      out += content;
      from = at + pattern.size();
    }
  out += text.substr(from);
  return out;
}

// Base of stages that look at whole tokens: collects the parts and calls token().
class WholeToken : public DecodeState {
 public:
  using DecodeState::DecodeState;
  void text(std::string_view part) final { token_ += part; }
  void end_token() final {
    std::string whole = std::move(token_);
    token_.clear();
    token(std::move(whole));
  }
  void finish() override {}

 protected:
  virtual void token(std::string text) = 0;
  void emit(std::string_view text) {
    next_.text(text);
    next_.end_token();
  }

 private:
  std::string token_;
};

// Stages without memory: a function of the token and of whether it is the first one.
class PerToken : public DecodeStage {
 public:
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(*this, next); }
  std::string token_bytes(std::string token) const override { return map(std::move(token), false); }

 protected:
  virtual std::string map(std::string token, bool first) const = 0;

 private:
  class State : public WholeToken {
   public:
    State(const PerToken& stage, TokenSink& next) : WholeToken(next), stage_(stage) {}

   protected:
    void token(std::string text) override {
      emit(stage_.map(std::move(text), first_));
      first_ = false;
    }

   private:
    const PerToken& stage_;
    bool first_ = true;
  };
};

// Bytes become text as soon as they form characters; what cannot become one is U+FFFD per maximal subpart.
class ByteLevelStage : public DecodeStage {
 public:
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(next); }
  std::string token_bytes(std::string token) const override {
    auto bytes = byte_alphabet::decode(token);
    return bytes ? std::move(*bytes) : token;
  }

 private:
  class State : public WholeToken {
   public:
    using WholeToken::WholeToken;
    void finish() override {
      next_.text(utf8::sanitize(pending_));
      next_.end_token();  // the whole text counts as one token for the stages that follow
    }

   protected:
    void token(std::string text) override {
      const auto bytes = byte_alphabet::decode(text);
      pending_ += bytes ? *bytes : text;
      const size_t whole = pending_.size() - utf8::incomplete_tail(pending_);
      if (whole == 0) return;
      next_.text(utf8::sanitize(std::string_view(pending_).substr(0, whole)));
      pending_.erase(0, whole);
    }

   private:
    std::string pending_;
  };
};

// A run of <0xXX> tokens is one token if its bytes are UTF-8 as a whole, else one U+FFFD per byte: known at its end.
class ByteFallbackStage : public DecodeStage {
 public:
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(next); }
  std::string token_bytes(std::string token) const override {
    const auto b = parse_byte_token(token);
    return b ? std::string(1, static_cast<char>(*b)) : token;
  }

 private:
  class State : public WholeToken {
   public:
    using WholeToken::WholeToken;
    void finish() override { flush(); }

   protected:
    void token(std::string text) override {
      if (const auto b = parse_byte_token(text)) {
        run_ += static_cast<char>(*b);
        return;
      }
      flush();
      emit(text);
    }

   private:
    void flush() {
      if (run_.empty()) return;
      if (utf8::is_valid(run_))
        emit(run_);
      else
        for (size_t i = 0; i < run_.size(); ++i) emit(kReplacement);
      run_.clear();
    }
    std::string run_;
  };
};

class MetaspaceStage : public PerToken {
 public:
  MetaspaceStage(std::string replacement, bool drop_first)
      : replacement_(std::move(replacement)), drop_first_(drop_first) {}

 protected:
  std::string map(std::string token, bool first) const override {
    return replace_all(token, replacement_, first && drop_first_ ? "" : " ");
  }

 private:
  std::string replacement_;
  bool drop_first_;
};

class FuseStage : public DecodeStage {
 public:
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(next); }
  std::string token_bytes(std::string token) const override { return token; }

 private:
  class State : public DecodeState {
   public:
    using DecodeState::DecodeState;
    void text(std::string_view part) override { next_.text(part); }
    void end_token() override {}
    void finish() override { next_.end_token(); }
  };
};

// Removes up to `start` copies of a character from the beginning of each token and up to `stop` from its end.
class StripStage : public DecodeStage {
 public:
  StripStage(std::string content, size_t start, size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(*this, next); }
  std::string token_bytes(std::string token) const override { return token; }

 private:
  class State : public DecodeState {
   public:
    State(const StripStage& stage, TokenSink& next) : DecodeState(next), stage_(stage) {}
    void text(std::string_view part) override {
      const std::string& c = stage_.content_;
      while (leading_ && removed_ < stage_.start_ && part.starts_with(c)) {
        part.remove_prefix(c.size());
        ++removed_;
      }
      if (part.empty()) return;
      leading_ = false;
      size_t copies = 0;  // trailing copies of the character in this part
      while (part.size() >= c.size() && part.ends_with(c)) {
        part.remove_suffix(c.size());
        ++copies;
      }
      if (!part.empty()) {
        put(held_);
        held_ = 0;
        next_.text(part);
      }
      held_ += copies;
      if (held_ > stage_.stop_) {
        put(held_ - stage_.stop_);
        held_ = stage_.stop_;
      }
    }
    void end_token() override {
      next_.end_token();
      leading_ = true;
      removed_ = held_ = 0;
    }
    void finish() override {}

   private:
    void put(size_t copies) {
      for (size_t i = 0; i < copies; ++i) next_.text(stage_.content_);
    }
    const StripStage& stage_;
    bool leading_ = true;  // nothing but removed characters so far
    size_t removed_ = 0, held_ = 0;
  };

  std::string content_;
  size_t start_, stop_;
};

// Plain text replacement within each token; holds back a tail that may be the start of the pattern.
class ReplaceStringStage : public DecodeStage {
 public:
  ReplaceStringStage(std::string pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(*this, next); }
  std::string token_bytes(std::string token) const override { return replace_all(token, pattern_, content_); }

 private:
  class State : public DecodeState {
   public:
    State(const ReplaceStringStage& stage, TokenSink& next) : DecodeState(next), stage_(stage) {}
    void text(std::string_view part) override {
      held_ += part;
      const std::string& pattern = stage_.pattern_;
      if (pattern.empty()) return release(held_.size());
      for (size_t at = held_.find(pattern); at != std::string::npos; at = held_.find(pattern)) {
        release(at);
        next_.text(stage_.content_);
        held_.erase(0, pattern.size());
      }
      size_t keep = std::min(held_.size(), pattern.size() - 1);
      while (!pattern.starts_with(std::string_view(held_).substr(held_.size() - keep))) --keep;
      release(held_.size() - keep);
    }
    void end_token() override {
      release(held_.size());
      next_.end_token();
    }
    void finish() override {}

   private:
    void release(size_t n) {
      if (n == 0) return;
      next_.text(std::string_view(held_).substr(0, n));
      held_.erase(0, n);
    }
    const ReplaceStringStage& stage_;
    std::string held_;
  };

  std::string pattern_, content_;
};

class ReplaceRegexStage : public PerToken {
 public:
  ReplaceRegexStage(std::string_view pattern, std::string content, std::string_view source)
      : regex_(pattern, source), content_(std::move(content)) {}

 protected:
  std::string map(std::string token, bool) const override {
    std::string out;
    size_t from = 0;
    for (const Range& m : regex_.find_all(token)) {
      out.append(token, from, m.begin - from);
      out += content_;
      from = m.end;
    }
    out.append(token, from, std::string::npos);
    return out;
  }

 private:
  Regex regex_;
  std::string content_;
};

// The end-of-word suffix becomes a space, except on the last token, which is why one token is held back.
class BpeDecoderStage : public DecodeStage {
 public:
  explicit BpeDecoderStage(std::string suffix) : suffix_(std::move(suffix)) {}
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(*this, next); }
  std::string token_bytes(std::string token) const override { return replace_all(token, suffix_, " "); }

 private:
  class State : public WholeToken {
   public:
    State(const BpeDecoderStage& stage, TokenSink& next) : WholeToken(next), stage_(stage) {}
    void finish() override {
      if (any_) emit(replace_all(held_, stage_.suffix_, ""));
    }

   protected:
    void token(std::string text) override {
      if (any_) emit(replace_all(held_, stage_.suffix_, " "));
      held_ = std::move(text);
      any_ = true;
    }

   private:
    const BpeDecoderStage& stage_;
    std::string held_;
    bool any_ = false;
  };

  std::string suffix_;
};

struct Substitution {
  std::string_view pattern, content;
};
constexpr Substitution kWordPieceCleanup[] = {{" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
                                              {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
                                              {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
constexpr Substitution kTextCleanup[] = {{" .", "."},     {" ?", "?"},     {" !", "!"},   {" ,", ","},
                                         {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"},
                                         {" 've", "'ve"}, {" 're", "'re"}};

std::string clean(std::string text) {
  for (const Substitution& s : kWordPieceCleanup) text = replace_all(text, s.pattern, s.content);
  return text;
}

class WordPieceStage : public PerToken {
 public:
  WordPieceStage(std::string prefix, bool cleanup) : prefix_(std::move(prefix)), cleanup_(cleanup) {}

 protected:
  std::string map(std::string token, bool first) const override {
    if (!first) {
      if (token.starts_with(prefix_))
        token.erase(0, prefix_.size());
      else
        token.insert(0, 1, ' ');
    }
    return cleanup_ ? clean(std::move(token)) : token;
  }

 private:
  std::string prefix_;
  bool cleanup_;
};

class CtcStage : public DecodeStage {
 public:
  CtcStage(std::string pad, std::string delimiter, bool cleanup)
      : pad_(std::move(pad)), delimiter_(std::move(delimiter)), cleanup_(cleanup) {}
  std::unique_ptr<DecodeState> start(TokenSink& next) const override { return std::make_unique<State>(*this, next); }
  std::string token_bytes(std::string token) const override {
    token = replace_all(token, pad_, "");
    return cleanup_ ? replace_all(clean(std::move(token)), delimiter_, " ") : token;
  }

 private:
  class State : public WholeToken {
   public:
    State(const CtcStage& stage, TokenSink& next) : WholeToken(next), stage_(stage) {}

   protected:
    void token(std::string text) override {
      if (any_ && text == last_) return;  // a repeated frame
      last_ = text;
      any_ = true;
      const std::string shown = stage_.token_bytes(std::move(text));
      if (!shown.empty()) emit(shown);
    }

   private:
    const CtcStage& stage_;
    std::string last_;
    bool any_ = false;
  };

  std::string pad_, delimiter_;
  bool cleanup_;
};

class SpaceJoinStage : public PerToken {
 protected:
  std::string map(std::string token, bool first) const override { return first ? token : " " + token; }
};

}  // namespace

std::unique_ptr<DecodeStage> make_byte_level_decoder() { return std::make_unique<ByteLevelStage>(); }
std::unique_ptr<DecodeStage> make_byte_fallback_decoder() { return std::make_unique<ByteFallbackStage>(); }
std::unique_ptr<DecodeStage> make_metaspace_decoder(std::string replacement, bool drop_first_space) {
  return std::make_unique<MetaspaceStage>(std::move(replacement), drop_first_space);
}
std::unique_ptr<DecodeStage> make_fuse_decoder() { return std::make_unique<FuseStage>(); }
std::unique_ptr<DecodeStage> make_strip_decoder(std::string content, size_t start, size_t stop) {
  FETTLE_CHECK(!content.empty());
  return std::make_unique<StripStage>(std::move(content), start, stop);
}
std::unique_ptr<DecodeStage> make_replace_string_decoder(std::string pattern, std::string content) {
  return std::make_unique<ReplaceStringStage>(std::move(pattern), std::move(content));
}
std::unique_ptr<DecodeStage> make_replace_regex_decoder(std::string_view pattern, std::string content,
                                                        std::string_view source) {
  return std::make_unique<ReplaceRegexStage>(pattern, std::move(content), source);
}
std::unique_ptr<DecodeStage> make_bpe_decoder(std::string suffix) {
  return std::make_unique<BpeDecoderStage>(std::move(suffix));
}
std::unique_ptr<DecodeStage> make_wordpiece_decoder(std::string prefix, bool cleanup) {
  return std::make_unique<WordPieceStage>(std::move(prefix), cleanup);
}
std::unique_ptr<DecodeStage> make_ctc_decoder(std::string pad_token, std::string word_delimiter, bool cleanup) {
  return std::make_unique<CtcStage>(std::move(pad_token), std::move(word_delimiter), cleanup);
}
std::unique_ptr<DecodeStage> make_space_join_decoder() { return std::make_unique<SpaceJoinStage>(); }

void append_cleanup(Decoder& decoder) {
  decoder.push_back(make_fuse_decoder());
  for (const Substitution& s : kTextCleanup)
    decoder.push_back(make_replace_string_decoder(std::string(s.pattern), std::string(s.content)));
}

class DecoderRun::Output : public TokenSink {
 public:
  void text(std::string_view part) override { text_ += part; }
  void end_token() override {}
  std::string text_;
};

DecoderRun::DecoderRun(const Decoder& decoder) : output_(std::make_unique<Output>()) {
  states_.resize(decoder.size());
  for (size_t i = decoder.size(); i-- > 0;)
    states_[i] = decoder[i]->start(i + 1 < decoder.size() ? static_cast<TokenSink&>(*states_[i + 1]) : *output_);
}

DecoderRun::~DecoderRun() = default;

void DecoderRun::token(std::string_view text) {
  TokenSink& first = states_.empty() ? static_cast<TokenSink&>(*output_) : *states_.front();
  first.text(text);
  first.end_token();
}

void DecoderRun::finish() {
  for (const auto& state : states_) state->finish();
}

std::string DecoderRun::take() { return std::exchange(output_->text_, {}); }

}  // namespace fettle::text
