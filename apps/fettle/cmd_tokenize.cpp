#include <charconv>

#include "base/file.h"
#include "commands.h"
#include "context.h"
#include "engine/llm.h"
#include "eval/text_input.h"

namespace fettle::cli {
namespace {

struct TokenizeFlags {
  std::string model, file;
  std::vector<std::string> prompts, ids;
  bool json = false, no_bos = false, no_special = false, pieces = false, special = false;
};

constexpr size_t kMaxTextBytes = size_t{64} << 20;

std::string input_text(const TokenizeFlags& f) {
  std::string text;
  if (!f.prompts.empty()) {
    text = f.prompts.back();
    eval::require_utf8(text, "--prompt");
  } else if (!f.file.empty()) {
    text = read_file(f.file, kMaxTextBytes);
    eval::require_utf8(text, f.file);
  } else {
    text = read_stdin(kMaxTextBytes);
    eval::require_utf8(text, "stdin");
  }
  return text;
}

void tokenize(const TokenizeFlags& f) {
  const std::string text = input_text(f);
  const auto tokenizer = engine::load_tokenizer(f.model);
  const auto ids = tokenizer->encode(text, {.add_special = !f.no_bos, .parse_special = !f.no_special});
  if (f.json) {
    Json list = Json::array(), pieces = Json::array();
    for (const int32_t id : ids) {
      list.push_back(id);
      pieces.push_back(tokenizer->token_text(id));
    }
    Json out = Json::object();
    out["count"] = static_cast<uint64_t>(ids.size());
    out["tokens"] = std::move(list);
    out["pieces"] = std::move(pieces);
    return print_json(out);
  }
  if (!f.pieces) return print(fmt::format("{}\n", fmt::join(ids, " ")));
  std::string out;
  for (const int32_t id : ids) out += fmt::format("{:>7}  {}\n", id, printable(tokenizer->token_text(id)));
  print(out);
}

void detokenize(const TokenizeFlags& f) {
  const auto tokenizer = engine::load_tokenizer(f.model);
  std::vector<int32_t> ids;
  for (const std::string& text : f.ids) {
    int32_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc() || end != text.data() + text.size() || id < 0 ||
        static_cast<size_t>(id) >= tokenizer->vocab_size())
      fail(ErrorCode::kUsage, "fettle detokenize: expected token ids in [0, {}), found '{}'", tokenizer->vocab_size(),
           printable(text));
    ids.push_back(id);
  }
  const std::string text = tokenizer->decode(ids, !f.special);
  if (!f.json) return print(text + "\n");
  Json out = Json::object();
  out["text"] = text;
  print_json(out);
}

}  // namespace

void add_tokenize(Program& program) {
  auto f = std::make_shared<TokenizeFlags>();
  Command& t = program.add("tokenize", "turn text into token ids");
  t.positional("MODEL", &f->model, "directory, .gguf file or hub id");
  t.option("-p,--prompt", &f->prompts, "TEXT", "text (default: standard input)");
  t.option("-f,--file", &f->file, "FILE", "read the text from a file");
  t.toggle("--no-bos", &f->no_bos, "leave out the tokens that the model puts around a text");
  t.toggle("--no-parse-special", &f->no_special, "read control tokens in the text as plain text");
  t.toggle("--pieces", &f->pieces, "one token per line with its piece");
  t.toggle("--json", &f->json, "print one machine-readable object");
  t.example("fettle tokenize models/books-5m -p \"Hello, world!\"", "76 482 115 48 1109 37");
  t.on_run([f] { tokenize(*f); });
  Command& d = program.add("detokenize", "turn token ids into text");
  d.positional("MODEL", &f->model, "directory, .gguf file or hub id");
  d.positional("ID", &f->ids, "token ids");
  d.toggle("--special", &f->special, "print special tokens too");
  d.toggle("--json", &f->json, "print one machine-readable object");
  d.on_run([f] { detokenize(*f); });
}

}  // namespace fettle::cli
