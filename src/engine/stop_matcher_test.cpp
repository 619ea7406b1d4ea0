#include "engine/stop_matcher.h"

#include <gtest/gtest.h>

#include "base/random.h"

namespace fettle::engine {
namespace {

TEST(StopMatcher, FindsStringsAcrossPieces) {
  StopMatcher m({"END", "\n\n"});
  EXPECT_EQ(m.push("abE"), "ab");
  EXPECT_EQ(m.push("N"), "");
  EXPECT_EQ(m.push("x\n"), "ENx");
  EXPECT_EQ(m.push("\nrest"), "");
  EXPECT_TRUE(m.matched());
  EXPECT_EQ(m.push("more"), "");
  EXPECT_EQ(m.flush(), "");
}

TEST(StopMatcher, FlushReturnsHeldText) {
  StopMatcher m({"END"});
  EXPECT_EQ(m.push("xEN"), "x");
  EXPECT_EQ(m.flush(), "EN");
}

TEST(StopMatcher, AnySplitGivesTheSameText) {
  Random random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += static_cast<char>('a' + random.below(2));
    const std::vector<std::string> stops = {"aab", "bba", "abab", "abbab", "bb"};
    size_t cut = text.size();
    for (size_t end = 1; end <= text.size() && cut == text.size(); ++end)
      for (const std::string& stop : stops)
        if (std::string_view(text).substr(0, end).ends_with(stop)) cut = std::min(cut, end - stop.size());
    StopMatcher m(stops);
    std::string got;
    for (size_t pos = 0; pos < text.size() && !m.matched();) {
      const size_t n = 1 + random.below(3);
      got += m.push(std::string_view(text).substr(pos, n));
      pos += n;
    }
    got += m.flush();
    ASSERT_EQ(got, text.substr(0, cut)) << text << " round " << round;
  }
}

}  // namespace
}  // namespace fettle::engine
