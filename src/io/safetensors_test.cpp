#include "io/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/json.h"
#include "io/test_util.h"

namespace fettle::io {
namespace {

using ::testing::HasSubstr;

TEST(Safetensors, CasesGetTheirVerdict) {
  int cases = 0;
  for (const std::string& dir : vector_dirs("00-formats/safetensors_cases")) {
    const Json manifest = parse_json_file(path_join(dir, "manifest.json"));
    for (const auto& [name, row] : manifest.as_object()) {
      SCOPED_TRACE(name);
      const std::string path = path_join(dir, name + ".safetensors");
      const bool expected = row.find("expect")->as_string() == "accept";
      const AllocationMeter meter;
      std::string message;
      try {
        SafetensorsFile::open(path);
      } catch (const Error& e) {
        message = e.what();
        EXPECT_EQ(e.code(), ErrorCode::kInput);
        EXPECT_THAT(message, HasSubstr(path));
      }
      EXPECT_EQ(message.empty(), expected) << message << " / " << row.find("why")->as_string();
      EXPECT_LT(meter.bytes(), size_t{16} << 20);
      ++cases;
    }
  }
  EXPECT_GT(cases, 0);
}

std::string image(std::string_view header, size_t data_bytes) {
  std::string out(8, '\0');
  const uint64_t n = header.size();
  std::memcpy(out.data(), &n, 8);
  out += header;
  out.append(data_bytes, '\x01');
  return out;
}

std::string refusal(std::string_view content) {
  return input_error(
      [&] { parse_safetensors(std::as_bytes(std::span(content.data(), content.size())), "m.safetensors"); });
}

TEST(Safetensors, MessagesNameTensorFieldExpectedAndFound) {
  EXPECT_THAT(
      refusal(image(R"({"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,20]}})", 20)),
      HasSubstr("m.safetensors: tensor \"w\": data_offsets [0, 20): expected 24 bytes for F32 [2, 3], found 20"));
  EXPECT_THAT(refusal(image(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4)),
              HasSubstr("tensor \"w\": data_offsets end 8 > data size 4 (file truncated by 4 bytes?)"));
  EXPECT_THAT(refusal(image(R"({"w":{"dtype":"F32","shape":[1e3],"data_offsets":[0,8]}})", 8)),
              HasSubstr("tensor \"w\": shape: expected integers"));
  EXPECT_THAT(refusal(image(R"({"w":{"dtype":4,"shape":[],"data_offsets":[0,4]}})", 4)),
              HasSubstr("tensor \"w\": dtype: expected a string, found integer 4"));
  EXPECT_THAT(refusal(image(R"({"w":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", 4)),
              HasSubstr("tensor \"w\": duplicate key \"shape\""));
  EXPECT_THAT(refusal(image(R"({"__metadata__":{"a":"1","a":"1"}})", 0)),
              HasSubstr("__metadata__: duplicate key \"a\""));
  EXPECT_THAT(refusal(image(R"({"w":{"x":{"y":1,"y":1},"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1)),
              HasSubstr("tensor \"w\": duplicate key \"y\""));
  EXPECT_THAT(refusal(image(R"({"w":[]})", 0)), HasSubstr("found an array"));
  EXPECT_THAT(refusal(image(R"({"w":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", 4)),
              HasSubstr("found an array"));
  EXPECT_THAT(refusal(image(R"({"w":{"dtype":"I8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1)),
              HasSubstr("at most 8 dimensions"));
  EXPECT_THAT(refusal(image("{\"" + std::string(1025, 'n') + "\":{}}", 0)),
              HasSubstr("name of 1025 bytes, at most 1024"));
  std::string many = "{\"__metadata__\":{\"0\":\"\"";
  for (int i = 1; i <= 65536; ++i) many += fmt::format(",\"{}\":\"\"", i);
  EXPECT_THAT(refusal(image(many + "}}", 0)), HasSubstr("__metadata__: more than 65536 entries"));
  EXPECT_THAT(refusal(image("{} x", 0)), HasSubstr("invalid JSON at byte"));
}

TEST(Safetensors, UnknownFieldsAreSkippedWithinTheDepthLimit) {
  const std::string nested = "[" + std::string(20, '[') + std::string(20, ']') + ",{\"a\":[1,null,\"x\"]}]";
  const std::string ok = image(R"({"w":{"dtype":"I8","note":)" + nested + R"(,"shape":[1],"data_offsets":[0,1]}})", 1);
  EXPECT_EQ(parse_safetensors(std::as_bytes(std::span(ok)), "m").entries.size(), 1u);
  const std::string deep = std::string(40, '[') + std::string(40, ']');
  EXPECT_THAT(refusal(image(R"({"w":{"dtype":"I8","note":)" + deep + R"(,"shape":[1],"data_offsets":[0,1]}})", 1)),
              HasSubstr("nesting deeper than 32"));
}

TEST(Safetensors, NumbersOfUnknownFieldsAreJsonToo) {
  for (const std::string& number : {std::string(76, '1'), "-" + std::string(40, '9')})
    EXPECT_THAT(refusal(image(R"({"w":{"dtype":"I8","x":[)" + number + R"(],"shape":[1],"data_offsets":[0,1]}})", 1)),
                HasSubstr("does not fit 64 bits"));
  const std::string ok = image(R"({"w":{"dtype":"I8","x":[1.5e3],"shape":[1],"data_offsets":[0,1]}})", 1);
  EXPECT_EQ(parse_safetensors(std::as_bytes(std::span(ok)), "m").entries.size(), 1u);
}

TEST(Safetensors, ImpostorsAreNamed) {
  EXPECT_THAT(refusal(""), HasSubstr("an empty file"));
  EXPECT_THAT(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"),
              HasSubstr("git lfs pull"));
  EXPECT_THAT(refusal("\n <!DOCTYPE html><html>"), HasSubstr("an HTML page"));
  EXPECT_THAT(refusal("PK\x03\x04 something"), HasSubstr("a zip archive"));
  EXPECT_THAT(refusal("\x80\x02}q\x00X\x05"), HasSubstr("a Python pickle"));
  EXPECT_THAT(refusal(std::string_view("GGUF\x03\0\0\0", 8)), HasSubstr("a GGUF file"));
}

TEST(Safetensors, SubByteDtypesAreListedButNotRead) {
  const TempDir dir;
  const std::string path =
      dir.write("f4.safetensors", image(R"({"w":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}})", 2));
  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.at("w").type, "F4");
  EXPECT_THAT(input_error([&] { file.tensor("w"); }), HasSubstr("tensor \"w\": dtype F4"));
  EXPECT_THAT(input_error([&] { file.tensor("v"); }), HasSubstr("tensor \"v\": missing"));
}

TEST(Safetensors, WritesWhatItReadsInAnyOrder) {
  const TempDir dir;
  const std::string path = dir.file("a.safetensors");
  const float f[] = {1, -2, 3.5f};
  const uint8_t b[] = {7, 8, 9, 10, 11};
  const Tensor wide = Tensor::from<float>(f, {3, 1}), narrow_tensor = Tensor::from<uint8_t>(b, {5});
  {
    FileWriter out(path);
    SafetensorsWriter writer(
        out, {{"z.narrow", DType::kU8, {5}}, {"a.empty", DType::kI64, {0, 4}}, {"m.wide", DType::kF32, {3, 1}}});
    writer.write("z.narrow", narrow_tensor);
    writer.write("m.wide", wide);
    EXPECT_THAT(input_error([&] { writer.write("m.wide", wide); }, ErrorCode::kInternal), HasSubstr("written twice"));
    EXPECT_THAT(input_error([&] { writer.finish(); }, ErrorCode::kInternal), HasSubstr("a.empty"));
    writer.write("a.empty", Tensor::zeros(DType::kI64, {0, 4}));
    writer.finish();
    out.close();
  }
  const SafetensorsFile file = SafetensorsFile::open(path);
  EXPECT_EQ(file.metadata().at(0), (std::pair<std::string, std::string>("format", "pt")));
  EXPECT_EQ(file.at("a.empty").offset % 8, 0u);  // data section starts 8-aligned
  EXPECT_EQ(file.entries().back().name, "z.narrow");
  EXPECT_EQ(file.tensor("m.wide").to_f32(), std::vector<float>(std::begin(f), std::end(f)));
  const Tensor t = file.tensor("z.narrow");
  EXPECT_FALSE(t.owned());
  EXPECT_EQ(std::memcmp(t.bytes().data(), b, 5), 0);
}

TEST(Safetensors, TensorsOutliveTheFileObject) {
  const TempDir dir;
  const std::string path = dir.file("a.safetensors");
  const float f[] = {4, 5};
  write_safetensors(path, {{"w", Tensor::from<float>(f, {2})}});
  Tensor t;
  {
    const SafetensorsFile file = SafetensorsFile::open(path);
    t = file.tensor("w");
    file.release(file.at("w"));
  }
  EXPECT_EQ(t.to_f32()[1], 5.0f);
}

}  // namespace
}  // namespace fettle::io
