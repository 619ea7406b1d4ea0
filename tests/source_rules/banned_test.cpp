#include "banned.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

namespace source_rules {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(Banned, ThisTreeUsesNone) { EXPECT_EQ(describe(check_banned(FETTLE_SOURCE_DIR, allowed_uses())), ""); }

TEST(Banned, FindsCallsAndTypes) {
  EXPECT_THAT(describe(find_banned("a.cpp", "int x =\n  std::stoi (text);")), HasSubstr("a.cpp:2: stoi: "));
  for (const char* source : {"abort();", "::abort();", "assert(n > 0);", "strtoul(p, &e, 10)", "std::regex r(x);",
                             "std::mt19937_64 g;", "sscanf(s, f, &v)"})
    EXPECT_EQ(find_banned("a.cpp", source).size(), 1u) << source;
}

TEST(Banned, LeavesOtherWordsAlone) {
  for (const char* source :
       {"static_assert(sizeof(int) == 4);", "// abort()\n", "auto s = \"atoi(x)\";", "request.abort();",
        "request->abort();", "int rand = 3;", "my_assert(x);", "auto c = '\"'; int system = 1;", "x = 1'000'000;"})
    EXPECT_EQ(describe(find_banned("a.cpp", source)), "") << source;
}

TEST(Banned, AllowListIsExactAndKeptShort) {
  const fs::path root = fs::temp_directory_path() / ("fettle-banned-" + std::to_string(getpid()));
  fs::create_directories(root / "src/base");
  std::ofstream(root / "src/base/a.cpp") << "void f() { abort(); }\n";
  std::ofstream(root / "src/base/a_test.cpp") << "void g() { abort(); }\n";
  const Allowed abort_in_a{"src/base/a.cpp", "abort", "test"}, stoi_in_a{"src/base/a.cpp", "stoi", "test"};
  EXPECT_THAT(describe(check_banned(root, {})), HasSubstr("src/base/a.cpp:1: abort"));
  EXPECT_EQ(describe(check_banned(root, std::span(&abort_in_a, 1))), "");
  const Allowed both[] = {abort_in_a, stoi_in_a};
  EXPECT_THAT(describe(check_banned(root, both)), HasSubstr("allowed use of stoi is gone"));
  fs::remove_all(root);
}

}  // namespace
}  // namespace source_rules
