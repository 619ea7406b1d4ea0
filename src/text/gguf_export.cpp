#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/random.h"
#include "text/gguf_pre.h"
#include "text/gguf_vocab.h"
#include "text/models/bpe.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

namespace fettle::text {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

std::string replace_all(std::string text, std::string_view what, std::string_view with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
  return text;
}

class Exporter {
 public:
  explicit Exporter(const Tokenizer& tokenizer) : t_(tokenizer), p_(tokenizer.parts()) {}

  GgufVocab run() {
    write_common();
    switch (p_.kind) {
      case ModelKind::kBpe:
        if (p_.byte_level)
          write_gpt2();
        else
          write_llama_from_merges();
        break;
      case ModelKind::kSentencePieceBpe:
        write_llama_from_scores();
        break;
      case ModelKind::kUnigram:
        write_t5();
        break;
      case ModelKind::kWordPiece:
        write_bert();
        break;
      case ModelKind::kWordLevel:
        refuse("a WordLevel model");
    }
    verify();
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(ErrorCode::kInput, "{}: {} has no equivalent among the GGUF tokenizers", p_.source, what);
  }
  std::string describe_pipeline() const {
    std::string text = "the pipeline";
    for (const std::string& step : p_.pipeline) text += " " + printable(step, 80);
    return text;
  }

  void write_common() {
    const size_t n = p_.vocab.size();
    out_.source = p_.source;
    out_.tokens.resize(n);
    out_.token_types.assign(n, static_cast<int32_t>(GgufTokenType::kNormal));
    for (size_t i = 0; i < n; ++i) {
      const auto id = static_cast<TokenId>(i);
      if (p_.vocab.has(id)) {
        out_.tokens[i] = p_.vocab.piece(id);
      } else {
        out_.tokens[i] = fmt::format("[PAD{}]", i);
        set_type(id, GgufTokenType::kUnused);
      }
    }
    for (const AddedToken& token : p_.added)
      set_type(token.id, token.special ? GgufTokenType::kControl : GgufTokenType::kUserDefined);
    if (p_.unk) set_type(*p_.unk, GgufTokenType::kUnknown);
    out_.bos = t_.bos();
    out_.eos = t_.eos();
    out_.unk = t_.unk();
    out_.pad = t_.pad();
    // A template may name tokens that no configuration calls BOS or EOS.
    if (!out_.bos && p_.prefix.size() == 1) out_.bos = p_.prefix.front();
    if (!out_.eos && p_.suffix.size() == 1) out_.eos = p_.suffix.front();
    out_.add_bos = out_.bos && !p_.prefix.empty() && p_.prefix.front() == *out_.bos;
    out_.add_eos = out_.eos && !p_.suffix.empty() && p_.suffix.back() == *out_.eos;
    for (const TokenId id : p_.eog)
      if (id != out_.eos && id != out_.bos && !out_.eot && p_.vocab.has(id) && !is_eog_name(p_.vocab.piece(id)))
        out_.eot = id;  // ends a turn without having one of the names by which readers know such tokens
  }
  void set_type(TokenId id, GgufTokenType type) { out_.token_types[id] = static_cast<int32_t>(type); }

  // Removes the step from the front of the pipeline if it is there.
  static bool take(std::vector<std::string>& steps, std::string_view step) {
    if (steps.empty() || steps.front() != step) return false;
    steps.erase(steps.begin());
    return true;
  }

  void write_gpt2() {
    out_.model = "gpt2";
    const auto& bpe = dynamic_cast<const BpeModel&>(*p_.model);
    std::vector<std::string> steps = p_.pipeline;
    const bool nfc = take(steps, "norm:NFC");
    std::vector<std::string> splits;
    for (const std::string& step : steps) {
      constexpr std::string_view kSplit = "pre:Split:Regex:Isolated:";
      constexpr std::string_view kInverted = "pre:Split:Regex:Removed:invert:";  // the same for gapless patterns
      if (step == "pre:Digits:individual") {
        splits.emplace_back(R"(\p{N})");
      } else if (step == "pre:ByteLevel:regex") {
        splits.emplace_back(pattern_text(KnownPattern::kGpt2));
      } else if (step.starts_with(kSplit)) {
        splits.push_back(step.substr(kSplit.size()));
      } else if (step.starts_with(kInverted) && recognise_pattern(step.substr(kInverted.size()))) {
        splits.push_back(step.substr(kInverted.size()));
      } else if (step != "pre:ByteLevel") {
        refuse(describe_pipeline());
      }
    }
    const bool need_ignore = bpe.options().ignore_merges && !merges_reach_every_token(bpe);
    for (const GgufPre& row : gguf_pre_table()) {
      if (row.nfc != nfc || !std::equal(row.splits.begin(), row.splits.end(), splits.begin(), splits.end())) continue;
      const bool harmless = row.ignore_merges == bpe.options().ignore_merges ||
                            (row.ignore_merges ? merges_reach_every_token(bpe) : !need_ignore);
      if (!harmless) continue;
      out_.pre = row.name;
      break;
    }
    if (out_.pre.empty()) refuse(describe_pipeline());
    write_merges(bpe);
  }

  // Whether ignore_merges makes no difference: every token arises from its own merges.
  bool merges_reach_every_token(const BpeModel& bpe) const {
    std::vector<TokenId> ids;
    for (TokenId id = 0; static_cast<size_t>(id) < p_.model_vocab->size(); ++id) {
      if (!p_.model_vocab->has(id) || t_.is_special(id)) continue;
      const std::string bytes = t_.token_bytes(id);
      ids.clear();
      bpe.merge(bytes, ids);
      if (ids != std::vector<TokenId>{id}) return false;
    }
    return true;
  }

  void write_merges(const BpeModel& bpe) {
    struct Row {
      uint32_t rank;
      TokenId left, right;
    };
    std::vector<Row> rows;
    bpe.merges().for_each([&](TokenId left, TokenId right, MergeTable::Merge m) {
      rows.push_back({m.rank, left, right});
    });
    std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) { return a.rank < b.rank; });
    out_.merges.reserve(rows.size());
    for (const Row& r : rows)
      out_.merges.push_back(std::string(p_.model_vocab->piece(r.left)) + " " +
                            std::string(p_.model_vocab->piece(r.right)));
  }

  void write_llama_common() {
    out_.model = "llama";
    for (TokenId id = 0; static_cast<size_t>(id) < out_.tokens.size(); ++id) {
      if (p_.byte_fallback && parse_byte_token(out_.tokens[id])) set_type(id, GgufTokenType::kByte);
      // User-defined tokens are searched in the raw text, where spaces are still spaces.
      if (out_.token_types[id] == static_cast<int32_t>(GgufTokenType::kUserDefined))
        out_.tokens[id] = replace_all(out_.tokens[id], kSpaceMark, " ");
    }
  }

  void write_llama_from_scores() {
    write_llama_common();
    out_.scores = p_.scores;
    out_.scores.resize(out_.tokens.size());
    out_.add_space_prefix = space_prefix();
    out_.remove_extra_whitespaces =
        p_.normalizer && p_.normalizer->apply("a  b").find("\xE2\x96\x81\xE2\x96\x81") == std::string::npos;
    if (p_.charsmap) out_.precompiled_charsmap = p_.charsmap->blob();
  }
  bool space_prefix() const { return p_.normalizer && p_.normalizer->apply("a").starts_with(kSpaceMark); }

  void write_llama_from_merges() {
    std::vector<std::string> steps = p_.pipeline;
    const std::string mark(kSpaceMark);
    bool prefix = take(steps, "norm:Prepend:" + mark);
    const bool replaced = take(steps, "norm:Replace:String: :" + mark);
    if (take(steps, "pre:Metaspace:" + mark + ":prefix:whole"))
      prefix = true;
    else if (!take(steps, "pre:Metaspace:" + mark + ":never:whole") && !replaced)
      refuse(describe_pipeline());
    take(steps, "pre:Split:String:MergedWithPrevious: ");  // no space is left for it to find
    if (!steps.empty()) refuse(describe_pipeline());
    write_llama_common();
    out_.add_space_prefix = prefix;
    out_.remove_extra_whitespaces = false;
    const auto& bpe = dynamic_cast<const BpeModel&>(*p_.model);
    // A token's score is minus the rank of the first merge that makes it; other tokens are never the result of one.
    out_.scores.assign(out_.tokens.size(), 0.0f);
    std::vector<uint32_t> best(out_.tokens.size(), MergeTable::kNever);
    bpe.merges().for_each(
        [&](TokenId, TokenId, MergeTable::Merge m) { best[m.result] = std::min(best[m.result], m.rank); });
    for (size_t i = 0; i < best.size(); ++i) {
      if (best[i] != MergeTable::kNever)
        out_.scores[i] = -static_cast<float>(best[i]);
      else if (out_.token_types[i] == static_cast<int32_t>(GgufTokenType::kNormal))
        out_.scores[i] = -static_cast<float>(bpe.merges().size());
    }
  }

  void write_t5() {
    out_.model = "t5";
    const std::string mark(kSpaceMark);
    std::vector<std::string> steps = p_.pipeline;
    bool prefix = space_prefix(), squeeze = !p_.pipeline.empty() ? false : squeezes();
    if (!p_.pipeline.empty()) {
      take(steps, "norm:Precompiled");
      squeeze |= take(steps, "norm:Strip");
      squeeze |= take(steps, "norm:Replace:Regex: {2,}: ");
      squeeze |= take(steps, "pre:WhitespaceSplit");
      prefix = take(steps, "pre:Metaspace:" + mark + ":prefix:split") ||
               take(steps, "pre:Metaspace:" + mark + ":prefix:whole");
      if (!prefix && !take(steps, "pre:Metaspace:" + mark + ":never:split") &&
          !take(steps, "pre:Metaspace:" + mark + ":never:whole"))
        refuse(describe_pipeline());
      if (!steps.empty()) refuse(describe_pipeline());
    }
    out_.add_space_prefix = prefix;
    out_.remove_extra_whitespaces = squeeze;
    if (p_.charsmap) out_.precompiled_charsmap = p_.charsmap->blob();
    out_.scores = p_.scores;
    out_.scores.resize(out_.tokens.size());
    if (p_.byte_fallback)
      for (TokenId id = 0; static_cast<size_t>(id) < out_.tokens.size(); ++id)
        if (parse_byte_token(out_.tokens[id])) set_type(id, GgufTokenType::kByte);
  }
  bool squeezes() const {
    return p_.normalizer && p_.normalizer->apply("a  b").find("\xE2\x96\x81\xE2\x96\x81") == std::string::npos;
  }

  void write_bert() {
    const std::vector<std::string> wanted = {"norm:BertNormalizer", "pre:BertPreTokenizer"};
    if (p_.pipeline != wanted) refuse(describe_pipeline());
    out_.model = "bert";
    for (TokenId id = 0; static_cast<size_t>(id) < out_.tokens.size(); ++id) {
      if (out_.token_types[id] != static_cast<int32_t>(GgufTokenType::kNormal)) continue;
      std::string& token = out_.tokens[id];
      if (token.starts_with("##"))
        token.erase(0, 2);
      else
        token.insert(0, kSpaceMark);
    }
    if (!p_.prefix.empty()) out_.bos = p_.prefix.front();
    if (!p_.suffix.empty()) out_.sep = p_.suffix.back();
    out_.add_bos = !p_.prefix.empty();
    out_.add_sep = !p_.suffix.empty();
    out_.add_eos.reset();
  }

  // The exported vocabulary must give the ids of the original.
  void verify() const {
    const auto copy = make_gguf_tokenizer(out_);
    constexpr std::array<std::string_view, 6> kTexts = {
        "",
        " ",
        "Hello, world!  It's   1234567 o'clock.\n\n\tWE'LL see",
        "a\r\n  b \n c   ",
        "caf\xC3\xA9 na\xC3\xAFve \xE6\xBC\xA2\xE5\xAD\x97 \xF0\x9F\x99\x82 e\xCC\x81",
        "x=1;y=-2.5e10//!!??"};
    for (std::string_view text : kTexts) compare(*copy, text);
    for (size_t letters : {60, 100, 101})
      compare(*copy, std::string(letters, 'a'));  // WordPiece gives up on long words
    Random random(1);
    for (int round = 0; round < 3000; ++round) {
      std::string text;
      for (uint64_t pieces = 1 + random.below(8); pieces > 0; --pieces) {
        const auto id = static_cast<TokenId>(random.below(p_.model_vocab->size()));
        if (!t_.is_special(id)) text += t_.token_bytes(id);
      }
      compare(*copy, text);
    }
  }
  void compare(const Tokenizer& copy, std::string_view text) const {
    const EncodeOptions options{.add_special = true, .parse_special = false};
    if (t_.encode(text, options) != copy.encode(text, options))
      fail(ErrorCode::kInput, "{}: as a GGUF vocabulary (model {}, pre \"{}\") \"{}\" would get other ids", p_.source,
           out_.model, out_.pre, printable(text));
  }

  const Tokenizer& t_;
  const TokenizerParts& p_;
  GgufVocab out_;
};

}  // namespace

GgufVocab to_gguf_vocab(const Tokenizer& tokenizer) {
  if (tokenizer.parts().gguf) return *tokenizer.parts().gguf;
  return Exporter(tokenizer).run();
}

}  // namespace fettle::text
