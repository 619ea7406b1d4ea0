#include "layers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace source_rules {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

// A source tree that lives as long as the test.
class Tree {
 public:
  Tree() : root_(fs::temp_directory_path() / ("fettle-layers-" + std::to_string(getpid()))) {
    write("LAYERS", "base\nlow left right\nhigh\n");
    write("base/base.h", "#pragma once\n");
    write("low/low.h", "#include \"base/base.h\"\n");
    write("left/left.h", "#include \"base/base.h\"\n");
    write("high/high.h", "#include \"low/low.h\"\n#include \"left/left.h\"\n");
  }
  ~Tree() { fs::remove_all(root_); }
  void write(const std::string& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  std::vector<Violation> check() const { return check_layers(root_); }
  // The one violation after `file` gets `text`.
  std::string with(const std::string& file, const std::string& text) {
    write(file, text);
    const auto found = check();
    EXPECT_EQ(found.size(), 1u) << describe(found);
    return describe(found);
  }

 private:
  fs::path root_;
};

TEST(Layers, ThisTreeKeepsThem) {
  const fs::path src = fs::path(FETTLE_SOURCE_DIR) / "src";
  ASSERT_GT(cpp_files(src).size(), 10u);
  EXPECT_EQ(describe(check_layers(src)), "");
}

TEST(Layers, AcceptsOwnAndLowerRooms) {
  Tree tree;
  tree.write("high/high.cpp",
             "#include \"high.h\"\n#include \"high/high.h\"\n#include <low/low.h>\n#include <vector>\n");
  tree.write("high/CMakeLists.txt", "fettle_room(high\n  DEPS base low left\n  LIBS fmt::fmt\n  SOURCES high.cpp)\n");
  EXPECT_THAT(tree.check(), IsEmpty()) << describe(tree.check());
}

TEST(Layers, RefusesUpwardIncludes) {
  EXPECT_THAT(Tree().with("base/up.cpp", "\n#  include \"high/high.h\"\n"), HasSubstr("base/up.cpp:2: room base"));
}

TEST(Layers, RefusesAngleBracketsAsWell) {
  EXPECT_THAT(Tree().with("base/up.cpp", "#include <low/low.h>\n"), HasSubstr("may not use room low"));
}

TEST(Layers, RefusesTheSameRank) {
  EXPECT_THAT(Tree().with("left/side.cpp", "#include \"low/low.h\"\n"), HasSubstr("may not use room low"));
}

TEST(Layers, RefusesDotsAndRoomsWithoutRank) {
  EXPECT_THAT(Tree().with("low/a.cpp", "#include \"../base/base.h\"\n"), HasSubstr("write the path from src/"));
  EXPECT_THAT(Tree().with("extra/a.cpp", "int x;\n"), HasSubstr("extra:0: this room has no rank"));
}

TEST(Layers, RefusesCmakeLinksThatGoUp) {
  EXPECT_THAT(Tree().with("low/CMakeLists.txt", "fettle_room(low DEPS base high SOURCES a.cpp)\n"),
              HasSubstr("low/CMakeLists.txt:0: room low"));
  EXPECT_THAT(Tree().with("low/CMakeLists.txt", "fettle_room(low DEPS lost)\n"), HasSubstr("lost, which has no rank"));
}

TEST(Layers, IgnoresCommentsAndStrings) {
  Tree tree;
  tree.write(
      "base/quiet.cpp",
      "// #include \"high/high.h\"\n/*\n#include \"high/high.h\"\n*/\nauto s = R\"(\n#include \"high/high.h\"\n)\";\n");
  EXPECT_THAT(tree.check(), IsEmpty()) << describe(tree.check());
}

TEST(Layers, RefusesARoomListedTwice) { EXPECT_THROW(parse_layers("a b\nc a\n"), std::runtime_error); }

}  // namespace
}  // namespace source_rules
