#include "compress/byte_tokenizer.h"

#include "base/json.h"
#include "text/byte_alphabet.h"

namespace fettle::compress {

ByteTokenizer byte_tokenizer() {
  constexpr const char* kSpecial[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"};
  Json added = Json::array(), vocab = Json::object();
  int64_t id = 0;
  for (const char* content : kSpecial) {
    Json token = Json::object();
    token["id"] = id;
    token["content"] = content;
    for (const char* key : {"single_word", "lstrip", "rstrip", "normalized"}) token[key] = false;
    token["special"] = true;
    added.push_back(std::move(token));
    vocab[content] = id++;
  }
  for (int b = 0; b < 256; ++b) {
    const auto byte = static_cast<char>(b);
    vocab[text::byte_alphabet::encode({&byte, 1})] = id++;
  }
  Json byte_level = Json::object();
  byte_level["type"] = "ByteLevel";
  byte_level["add_prefix_space"] = false;
  byte_level["trim_offsets"] = true;
  byte_level["use_regex"] = true;
  Json model = Json::object();
  model["type"] = "BPE";
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"})
    model[key] = Json();
  for (const char* key : {"fuse_unk", "byte_fallback", "ignore_merges"}) model[key] = false;
  model["vocab"] = std::move(vocab);
  model["merges"] = Json::array();
  Json tokenizer = Json::object();
  tokenizer["version"] = "1.0";
  tokenizer["truncation"] = Json();
  tokenizer["padding"] = Json();
  tokenizer["added_tokens"] = std::move(added);
  tokenizer["normalizer"] = Json();
  tokenizer["pre_tokenizer"] = byte_level;
  tokenizer["post_processor"] = Json();
  tokenizer["decoder"] = std::move(byte_level);
  tokenizer["model"] = std::move(model);

  Json config = Json::object();
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["eos_token"] = kSpecial[0];
  config["pad_token"] = kSpecial[3];
  config["add_bos_token"] = false;
  config["clean_up_tokenization_spaces"] = false;
  config["chat_template"] =
      "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
      "'\\n' }}"
      "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
  return {tokenizer.dump(1) + "\n", config.dump(1) + "\n"};
}

}  // namespace fettle::compress
