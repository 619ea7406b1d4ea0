#include "io/model_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "io/hub_cache.h"
#include "io/test_util.h"

namespace fettle::io {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

// Sets an environment variable for the length of a test.
class ScopedEnv {
 public:
  ScopedEnv(const char* name, const std::string& value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    ::setenv(name, value.c_str(), 1);
  }
  ~ScopedEnv() { old_.empty() ? ::unsetenv(name_) : ::setenv(name_, old_.c_str(), 1); }

 private:
  const char* name_;
  std::string old_;
};

TEST(ModelFiles, FoldersFilesAndMissingPaths) {
  const TempDir dir;
  dir.write("hf/config.json", "{\"model_type\":\"llama\"}");
  dir.write("hf/generation_config.json", "{\"top_k\":5}");
  const ModelFiles hf = resolve_model(dir.file("hf"));
  EXPECT_EQ(hf.kind, ModelFiles::Kind::kHuggingFace);
  EXPECT_EQ(read_config(hf).find("model_type")->as_string(), "llama");
  EXPECT_EQ(read_generation_config(hf).find("top_k")->as_int(), 5);
  EXPECT_FALSE(hf.find("tokenizer.json").has_value());
  EXPECT_THAT(input_error([&] { hf.find("../x"); }), HasSubstr("is not a plain file name"));

  dir.write("g/x-Q4_0.gguf", "");
  dir.write("g/x-q8_0.gguf", "");
  EXPECT_THAT(resolve_model(dir.file("g")).path, HasSubstr("x-q8_0.gguf"));
  EXPECT_EQ(resolve_model(dir.file("g/x-Q4_0.gguf")).kind, ModelFiles::Kind::kGguf);

  dir.write("none/readme.txt", "");
  EXPECT_THAT(input_error([&] { resolve_model(dir.file("none")); }),
              HasSubstr("expected a model folder with config.json or a .gguf file"));
  EXPECT_THAT(input_error([&] { resolve_model(dir.file("nowhere/at/all")); }), HasSubstr("no such file or folder"));
  EXPECT_THAT(input_error([&] { resolve_model(dir.write("m.safetensors", "")); }), HasSubstr("give the folder"));
  EXPECT_THAT(input_error([&] { resolve_model(dir.write("m.bin", "")); }), HasSubstr("pickle"));
}

TEST(ModelFiles, HubIdsAreFoundInTheCache) {
  const TempDir dir;
  const ScopedEnv env("HF_HUB_CACHE", dir.path());
  const std::string commit(40, 'a');
  const std::string repo = "models--org--name";
  dir.write(repo + "/blobs/123", "{}");
  dir.write(repo + "/refs/main", commit + "\n");
  fs::create_directories(dir.file(repo + "/snapshots/" + commit));
  fs::create_symlink("../../blobs/123", dir.file(repo + "/snapshots/" + commit + "/config.json"));
  const ModelFiles files = resolve_model("org/name");
  EXPECT_EQ(files.path, dir.file(repo + "/snapshots/" + commit));
  EXPECT_TRUE(read_config(files).is_object());
  EXPECT_EQ(resolve_model("hf://org/name@" + commit).path, files.path);
  EXPECT_THAT(input_error([&] { resolve_model("org/name@v2"); }),
              HasSubstr("revision \"v2\" is not in the Hugging Face cache"));
  EXPECT_THAT(input_error([&] { resolve_model("org/absent"); }),
              HasSubstr("not in the Hugging Face cache (looked for"));
  dir.write(repo + "/refs/main", "../../../etc");
  EXPECT_THAT(input_error([&] { resolve_model("org/name"); }), HasSubstr("is not a plain file name"));
}

TEST(ModelFiles, CacheFolderFollowsTheEnvironment) {
  ::unsetenv("HF_HUB_CACHE");
  ::unsetenv("HUGGINGFACE_HUB_CACHE");
  {
    const ScopedEnv home("HF_HOME", "/h");
    EXPECT_EQ(hub_cache_dir(), "/h/hub");
    const ScopedEnv old("HUGGINGFACE_HUB_CACHE", "/old");
    EXPECT_EQ(hub_cache_dir(), "/old");
    const ScopedEnv cache("HF_HUB_CACHE", "/c");
    EXPECT_EQ(hub_cache_dir(), "/c");
  }
  ::unsetenv("HF_HOME");
  const ScopedEnv xdg("XDG_CACHE_HOME", "/x");
  EXPECT_EQ(hub_cache_dir(), "/x/huggingface/hub");
}

TEST(ModelFiles, HubIdSyntax) {
  const auto id = parse_hub_id("org/na.me-1@refs/pr/3:q4_k_m");
  ASSERT_TRUE(id.has_value());
  EXPECT_EQ(id->organisation + "|" + id->name + "|" + id->revision + "|" + id->quant, "org|na.me-1|refs/pr/3|q4_k_m");
  for (const char* bad : {"name", "a/b/c", "../b", "a/..", "a/b@../x", "a/b@", "a/b:", "a b/c", "/a"})
    EXPECT_FALSE(parse_hub_id(bad).has_value()) << bad;
}

TEST(ModelFiles, GgufChoice) {
  const std::vector<std::string> names = {"m-F16.gguf", "m-Q4_K_M-00001-of-00002.gguf", "m-Q4_K_M-00002-of-00002.gguf",
                                          "m-Q8_0.gguf"};
  EXPECT_EQ(choose_gguf(names, "", "m"), names[1]);
  EXPECT_EQ(choose_gguf(names, "q8_0", "m"), names[3]);
  EXPECT_THAT(input_error([&] { choose_gguf(names, "Q2_K", "m"); }), HasSubstr("no GGUF file ends in \"Q2_K\""));
  EXPECT_THAT(input_error([&] { choose_gguf({names[2]}, "", "m"); }),
              HasSubstr("first part of the split GGUF file is missing"));
}

TEST(ModelFiles, LinksThatLeaveTheFolderAreRefused) {
  const TempDir dir;
  dir.write("secret.json", "{}");
  dir.write("m/real.json", "{}");
  fs::create_symlink("../secret.json", dir.file("m/config.json"));
  fs::create_symlink("real.json", dir.file("m/inside.json"));
  const ModelFiles files{ModelFiles::Kind::kHuggingFace, dir.file("m"), Symlinks::kInside};
  EXPECT_THAT(input_error([&] { read_config(files); }), HasSubstr("leaves the model folder"));
  EXPECT_TRUE(files.find("inside.json").has_value());
  const ModelFiles follow{ModelFiles::Kind::kHuggingFace, dir.file("m"), Symlinks::kFollow};
  EXPECT_TRUE(read_config(follow).is_object());
}

}  // namespace
}  // namespace fettle::io
