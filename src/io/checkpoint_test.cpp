#include "io/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "io/checkpoint_writer.h"
#include "io/test_util.h"

namespace fettle::io {
namespace {

using ::testing::HasSubstr;

Tensor iota(int64_t n, float first) {
  std::vector<float> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i) v[i] = first + static_cast<float>(i);
  return Tensor::from<float>(v, {n});
}

class Sharded : public ::testing::Test {
 protected:
  Sharded() : model_(dir_.file("model")) {
    OutputDir out(model_, Overwrite::kNo);
    CheckpointWriter writer(
        out, {{"a", DType::kF32, {4}}, {"b", DType::kF32, {4}}, {"c", DType::kF32, {12}}, {"d", DType::kF32, {1}}}, 32);
    writer.write("c", iota(12, 30));
    writer.write("d", iota(1, 40));
    writer.write("b", iota(4, 20));
    writer.write("a", iota(4, 10));
    writer.finish();
    out.commit();
  }
  std::string index() const { return read_file(path_join(model_, "model.safetensors.index.json"), 1 << 20); }
  void set_index(const std::string& text) const {
    write_file_atomic(path_join(model_, "model.safetensors.index.json"), text);
  }
  std::string refusal() const {
    return input_error([&] { TensorSource::open_directory(model_); });
  }
  TempDir dir_;
  std::string model_;
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST_F(Sharded, ReadsBackAcrossShards) {
  const TensorSource source = TensorSource::open_directory(model_);
  EXPECT_TRUE(file_exists(path_join(model_, "model-00003-of-00003.safetensors")));  // a+b, c alone (too big), d
  EXPECT_EQ(source.entries().size(), 4u);
  EXPECT_EQ(source.total_bytes(), 84u);
  EXPECT_EQ(source.get("b").to_f32(), iota(4, 20).to_f32());
  EXPECT_EQ(source.get("d").to_f32(), iota(1, 40).to_f32());
  EXPECT_THAT(source.file_of("c"), HasSubstr("model-00002-of-00003.safetensors"));
  EXPECT_THAT(index(), HasSubstr("\"total_size\": 84"));
  source.release("a");
  EXPECT_EQ(source.get("a").to_f32()[0], 10.0f);
  EXPECT_THAT(input_error([&] { source.get("e"); }), HasSubstr("tensor \"e\": missing"));
}

TEST_F(Sharded, BrokenIndexesAreRefusedByName) {
  const std::string good = index();
  std::filesystem::rename(path_join(model_, "model-00002-of-00003.safetensors"), path_join(model_, "away"));
  EXPECT_THAT(refusal(), HasSubstr("shard \"model-00002-of-00003.safetensors\": missing"));
  std::filesystem::rename(path_join(model_, "away"), path_join(model_, "model-00002-of-00003.safetensors"));

  set_index(replaced(good, "\"c\": \"model-00002", "\"c\": \"model-00001"));
  EXPECT_THAT(refusal(), HasSubstr("weight_map: tensor \"c\" is not in model-00001-of-00003.safetensors"));
  set_index(
      replaced(good, "\"c\": \"model-00002-of-00003.safetensors\"", "\"c\": \"../model-00002-of-00003.safetensors\""));
  EXPECT_THAT(refusal(), HasSubstr("is not a plain file name"));
  set_index(replaced(good, "\"c\": \"model-00002-of-00003.safetensors\"", "\"c\": 3"));
  EXPECT_THAT(refusal(), HasSubstr("weight_map.c: expected string, found integer 3"));
  set_index(replaced(good, "\"c\"", "\"a\""));
  EXPECT_THAT(refusal(), HasSubstr("duplicate key \"a\""));
  set_index("{\"metadata\":{}}");
  EXPECT_THAT(refusal(), HasSubstr("weight_map: missing"));
  set_index("{\"weight_map\":{}}");
  EXPECT_THAT(refusal(), HasSubstr("at least one tensor"));
}

TEST_F(Sharded, TensorInTwoShardsIsRefused) {
  write_safetensors(path_join(model_, "model-00003-of-00003.safetensors"), {{"d", iota(1, 40)}, {"a", iota(4, 10)}});
  EXPECT_THAT(refusal(), HasSubstr("tensor \"a\": found in two files"));
}

TEST_F(Sharded, UnfinishedOutputLeavesNothing) {
  const std::string target = dir_.file("other");
  {
    OutputDir out(target, Overwrite::kNo);
    CheckpointWriter writer(out, {{"a", DType::kF32, {4}}, {"b", DType::kF32, {4}}});
    writer.write("a", iota(4, 0));
    EXPECT_THAT(input_error([&] { writer.finish(); }, ErrorCode::kInternal),
                HasSubstr("\"b\" was announced but not written"));
  }
  EXPECT_EQ(list_directory(dir_.path()), std::vector<std::string>{"model"});
}

TEST(TensorSource, FoldersWithoutSafetensorsSayWhatIsThere) {
  const TempDir dir;
  dir.write("m/pytorch_model.bin", "x");
  EXPECT_THAT(input_error([&] { TensorSource::open_directory(dir.file("m")); }),
              HasSubstr("found pytorch_model.bin: pickle"));
  dir.write("e/config.json", "{}");
  EXPECT_THAT(input_error([&] { TensorSource::open_directory(dir.file("e")); }), HasSubstr("found neither"));
}

std::string tiny_gguf(const TempDir& dir, const std::string& name, int part, int count, const std::string& tensor) {
  GgufMetadata meta;
  meta.u32("split.no", static_cast<uint32_t>(part - 1));
  meta.u32("split.count", static_cast<uint32_t>(count));
  meta.i32("split.tensors.count", 2);
  FileWriter out(dir.file(name));
  GgufWriter writer(out, meta, {{tensor, 0, {1, 2}}});
  const float f[] = {static_cast<float>(part), 2};
  writer.write(tensor, std::as_bytes(std::span(f)));
  writer.finish();
  out.close();
  return dir.file(name);
}

TEST(TensorSource, ReadsSplitGguf) {
  const TempDir dir;
  const std::string first = tiny_gguf(dir, "m-00001-of-00002.gguf", 1, 2, "a.weight");
  EXPECT_THAT(input_error([&] { TensorSource::open_gguf(first); }), HasSubstr("m-00002-of-00002.gguf\": missing"));
  tiny_gguf(dir, "m-00002-of-00002.gguf", 2, 2, "b.weight");
  const TensorSource source = TensorSource::open_gguf(first);
  EXPECT_TRUE(source.is_gguf());
  EXPECT_EQ(source.get("b.weight").to_f32()[0], 2.0f);
  tiny_gguf(dir, "m-00002-of-00002.gguf", 1, 2, "b.weight");
  EXPECT_THAT(input_error([&] { TensorSource::open_gguf(first); }), HasSubstr("\"split.no\": expected 1, found 0"));
}

}  // namespace
}  // namespace fettle::io
