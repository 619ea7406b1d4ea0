#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::text {

// Takes token texts in parts: text() any number of times, then end_token().
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void text(std::string_view part) = 0;
  virtual void end_token() = 0;
};

// A running decoder stage. finish() is called once, after the last token; it hands on whatever was held back.
class DecodeState : public TokenSink {
 public:
  explicit DecodeState(TokenSink& next) : next_(next) {}
  virtual void finish() = 0;

 protected:
  TokenSink& next_;
};

// One step of the decoder of tokenizer.json, written as a transducer over the stream of token texts, so that decoding
// everything at once and decoding token by token are the same computation. What is handed on is well-formed UTF-8.
class DecodeStage {
 public:
  virtual ~DecodeStage() = default;
  virtual std::unique_ptr<DecodeState> start(TokenSink& next) const = 0;
  // Bytes of one token in the middle of a text; the only place where a character may be incomplete.
  virtual std::string token_bytes(std::string token) const = 0;
};

using Decoder = std::vector<std::unique_ptr<DecodeStage>>;

std::unique_ptr<DecodeStage> make_byte_level_decoder();
std::unique_ptr<DecodeStage> make_byte_fallback_decoder();
std::unique_ptr<DecodeStage> make_metaspace_decoder(std::string replacement, bool drop_first_space);
std::unique_ptr<DecodeStage> make_fuse_decoder();
std::unique_ptr<DecodeStage> make_strip_decoder(std::string content, size_t start, size_t stop);
std::unique_ptr<DecodeStage> make_replace_string_decoder(std::string pattern, std::string content);
std::unique_ptr<DecodeStage> make_replace_regex_decoder(std::string_view pattern, std::string content,
                                                        std::string_view source);
std::unique_ptr<DecodeStage> make_bpe_decoder(std::string suffix);
std::unique_ptr<DecodeStage> make_wordpiece_decoder(std::string prefix, bool cleanup);
std::unique_ptr<DecodeStage> make_ctc_decoder(std::string pad_token, std::string word_delimiter, bool cleanup);
std::unique_ptr<DecodeStage> make_space_join_decoder();  // what happens when tokenizer.json has no decoder
// Adds the text clean-up of WordPiece-era configurations (" ." -> "." and so on) to the end of a chain.
void append_cleanup(Decoder& decoder);

// A decoder chain in operation; take() gives the text completed so far.
class DecoderRun {
 public:
  explicit DecoderRun(const Decoder& decoder);
  ~DecoderRun();
  void token(std::string_view text);
  void finish();
  std::string take();

 private:
  class Output;
  std::unique_ptr<Output> output_;
  std::vector<std::unique_ptr<DecodeState>> states_;  // states_[0] is the first stage
};

}  // namespace fettle::text
