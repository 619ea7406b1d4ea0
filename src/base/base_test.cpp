#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "base/utf8.h"

namespace fettle {
namespace {

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "fettle-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string file(std::string_view name) const { return path_join(path_, name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Checked, RefusesOverflow) {
  uint64_t out = 0;
  EXPECT_TRUE(checked_mul(1u << 31, 2, &out));
  EXPECT_EQ(out, uint64_t{1} << 32);
  EXPECT_FALSE(checked_mul(uint64_t{1} << 32, uint64_t{1} << 32, &out));
  EXPECT_FALSE(checked_align(UINT64_MAX - 3, 32, &out));
  EXPECT_EQ(narrow<int8_t>(127), 127);
  EXPECT_THROW(narrow<int8_t>(128), Error);
  EXPECT_THROW(narrow<uint32_t>(-1), Error);
}

TEST(Json, KeepsOrderAndIntegers) {
  const Json v = parse_json(R"({"b":1,"a":[true,null,1.5,"x\u00e9"],"n":18446744073709551615})", "t");
  EXPECT_EQ(v.dump(), "{\"b\":1,\"a\":[true,null,1.5,\"x\xC3\xA9\"],\"n\":18446744073709551615}");
  EXPECT_EQ(v.find("n")->as_uint(), UINT64_MAX);
  EXPECT_EQ(Json(1.0).dump(), "1.0");
}

TEST(Json, RefusesWhatOutsideFilesMustNotContain) {
  EXPECT_THAT(message_of([] { parse_json(R"({"a":1,"a":1})", "f.json"); }), "f.json: duplicate key \"a\"");
  EXPECT_THROW(parse_json("{} x", "f"), Error);
  EXPECT_THROW(parse_json("\xEF\xBB\xBF{}", "f"), Error);
  EXPECT_THROW(parse_json("\"\xFF\"", "f"), Error);
  EXPECT_THROW(parse_json("1e999", "f"), Error);
  EXPECT_THROW(parse_json("99999999999999999999", "f"), Error);
  EXPECT_THROW(parse_json(std::string(100, '['), "f"), Error);
  EXPECT_THROW(parse_json("NaN", "f"), Error);
  EXPECT_THROW(parse_json("", "f"), Error);
}

TEST(Json, ReaderNamesPlaceExpectedAndFound) {
  const Json v = parse_json(R"({"rope":{"factor":"x"},"n":1.5})", "config.json");
  const JsonReader r(v, "config.json");
  EXPECT_EQ(message_of([&] { r.at("rope").at("factor").number(); }),
            "config.json: rope.factor: expected number, found string \"x\"");
  EXPECT_EQ(message_of([&] { r.at("n").integer(); }).substr(0, 36), "config.json: n: expected integer in ");
  EXPECT_EQ(message_of([&] { r.at("rope").at("kind"); }), "config.json: rope.kind: missing");
  EXPECT_EQ(r.integer_or("absent", 7), 7);
}

TEST(Utf8, DecodesAllScalarsAndRefusesTheRest) {
  for (char32_t cp = 0; cp <= 0x10FFFF; ++cp) {
    if (cp >= 0xD800 && cp <= 0xDFFF) continue;
    std::string s;
    utf8::append(s, cp);
    const utf8::Decoded d = utf8::decode(s, 0);
    ASSERT_TRUE(d.valid && d.code_point == cp && d.length == s.size()) << static_cast<uint32_t>(cp);
    for (size_t cut = 1; cut < s.size(); ++cut)
      ASSERT_EQ(utf8::incomplete_tail(std::string_view(s).substr(0, cut)), cut) << static_cast<uint32_t>(cp);
    ASSERT_EQ(utf8::incomplete_tail(s), 0u);
  }
  EXPECT_FALSE(utf8::is_valid("\xC0\x80"));
  EXPECT_FALSE(utf8::is_valid("\xED\xA0\x80"));
  EXPECT_FALSE(utf8::is_valid("\xF4\x90\x80\x80"));
  EXPECT_EQ(utf8::sanitize("a\xE2\x82z\xFF"), "a\xEF\xBF\xBDz\xEF\xBF\xBD");
}

TEST(Error, PrintableEscapesControlsAndCuts) {
  EXPECT_EQ(printable("a\n\xFF\xE2\x80\xAE"), "a\\x0A\\xFF\\xE2\\x80\\xAE");
  EXPECT_EQ(printable(std::string(300, 'x'), 10), "xxxxxxxxxx...");
}

TEST(Random, PhiloxMatchesPublishedVectors) {  // Random123 kat_vectors, philox4x32 10 rounds
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(ThreadPool, RunsEveryItemOnceAndRethrows) {
  for (int threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<std::atomic<int>> hits(round);
      pool.parallel_for(hits.size(), [&](size_t i) { hits[i].fetch_add(1); });
      for (auto& h : hits) ASSERT_EQ(h.load(), 1);
    }
    EXPECT_THROW(pool.parallel_for(10,
                                   [](size_t i) {
                                     if (i == 5) fail(ErrorCode::kInput, "x");
                                   }),
                 Error);
    std::atomic<int> nested{0};
    pool.parallel_for(4, [&](size_t) { pool.parallel_for(4, [&](size_t) { nested.fetch_add(1); }); });
    EXPECT_EQ(nested.load(), 16);
  }
  EXPECT_THROW(ThreadPool(100000), Error);
}

TEST(File, MapsReadsAndRefusesSpecialFiles) {
  TempDir dir;
  write_file_atomic(dir.file("a"), "hello");
  EXPECT_EQ(read_file(dir.file("a"), 10), "hello");
  EXPECT_EQ(MappedFile::open(dir.file("a"))->bytes().size(), 5u);
  EXPECT_THROW(read_file(dir.file("a"), 4), Error);
  EXPECT_THROW(MappedFile::open(dir.path()), Error);
  EXPECT_THROW(MappedFile::open("/dev/null"), Error);
  EXPECT_THROW(MappedFile::open(dir.file("absent")), Error);
  for (const char* bad : {"", "..", ".x", "a/b", "a\\b"}) EXPECT_THROW(require_base_name(bad, "index"), Error) << bad;
}

TEST(File, OutputDirIsWholeOrAbsent) {
  TempDir dir;
  const std::string target = dir.file("out");
  {
    OutputDir out(target, Overwrite::kNo);
    write_file_atomic(out.file("x"), "1");
    EXPECT_THROW(OutputDir(target, Overwrite::kNo), Error) << "second writer must be locked out";
  }
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  {
    OutputDir out(target, Overwrite::kNo);
    write_file_atomic(out.file("x"), "2");
    out.commit();
  }
  EXPECT_EQ(read_file(path_join(target, "x"), 10), "2");
  EXPECT_THROW(OutputDir(target, Overwrite::kNo), Error);
  {
    OutputDir out(target, Overwrite::kYes);
    write_file_atomic(out.file("x"), "3");
    out.commit();
  }
  EXPECT_EQ(read_file(path_join(target, "x"), 10), "3");
  EXPECT_EQ(list_directory(dir.path()).size(), 1u);
}

TEST(File, LeftoversOfDeadWritersAreRemoved) {
  TempDir dir;
  std::filesystem::create_directory(dir.file("out.partial-999999999-abcd"));
  OutputDir out(dir.file("out"), Overwrite::kNo);
  EXPECT_FALSE(file_exists(dir.file("out.partial-999999999-abcd")));
}

TEST(File, DiskFullIsReported) {
  EXPECT_THROW(
      {
        FileWriter w("/dev/full");
        w.write("x");
        w.close();
      },
      Error);
}

}  // namespace
}  // namespace fettle
