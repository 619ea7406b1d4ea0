#include "tensor/df11/code_book.h"

#include <algorithm>
#include <queue>
#include <tuple>

#include "base/error.h"

namespace fettle::df11 {
namespace {

struct Node {
  int symbol = kEnd;  // leaves
  int left = -1, right = -1;
};

class Tree {
 public:
  explicit Tree(const Histogram& counts) {
    using Entry = std::tuple<uint64_t, int, int>;  // count, first symbol, node
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
    const auto leaf = [&](uint64_t count, int symbol) {
      nodes_.push_back({symbol, -1, -1});
      queue.emplace(count, symbol, static_cast<int>(nodes_.size()) - 1);
    };
    leaf(1, kEnd);
    for (int s = 0; s < 256; ++s)
      if (counts[static_cast<size_t>(s)] > 0) leaf(counts[static_cast<size_t>(s)], s);
    while (queue.size() > 1) {
      const auto [count_a, first_a, a] = queue.top();
      queue.pop();
      const auto [count_b, first_b, b] = queue.top();
      queue.pop();
      nodes_.push_back({kEnd, a, b});
      queue.emplace(count_a + count_b, first_a, static_cast<int>(nodes_.size()) - 1);
    }
    root_ = std::get<2>(queue.top());
  }

  // Leaves from the 0 side to the 1 side; false when a code would be longer than kMaxLength.
  bool codes(std::vector<Code>* out) const {
    struct Visit {
      int node, depth;
      uint32_t bits;
    };
    out->clear();
    std::vector<Visit> stack = {{root_, 0, 0}};
    while (!stack.empty()) {
      const Visit v = stack.back();
      stack.pop_back();
      if (v.depth > kMaxLength) return false;
      const Node& n = nodes_[static_cast<size_t>(v.node)];
      if (n.left < 0) {
        out->push_back({n.symbol, static_cast<uint8_t>(v.depth), v.bits});
        continue;
      }
      stack.push_back({n.right, v.depth + 1, v.bits << 1 | 1});
      stack.push_back({n.left, v.depth + 1, v.bits << 1});
    }
    return true;
  }

 private:
  std::vector<Node> nodes_;
  int root_ = 0;
};

std::vector<int> symbols_by_count(const Histogram& counts) {
  std::vector<int> symbols;
  for (int s = 0; s < 256; ++s)
    if (counts[static_cast<size_t>(s)] > 0) symbols.push_back(s);
  std::stable_sort(symbols.begin(), symbols.end(),
                   [&](int a, int b) { return counts[static_cast<size_t>(a)] < counts[static_cast<size_t>(b)]; });
  return symbols;
}

// Lengths of the best prefix code of at most `limit` bits (Larmore and Hirschberg 1990). symbols: ascending by count.
std::vector<int> package_merge(const Histogram& counts, const std::vector<int>& symbols, int limit) {
  struct Package {
    uint64_t weight;
    std::vector<uint16_t> members;  // indices into symbols
  };
  std::vector<Package> coins;
  for (size_t i = 0; i < symbols.size(); ++i)
    coins.push_back({counts[static_cast<size_t>(symbols[i])], {static_cast<uint16_t>(i)}});
  std::vector<Package> level = coins;
  for (int bit = 1; bit < limit; ++bit) {
    std::vector<Package> pairs;
    for (size_t i = 0; i + 1 < level.size(); i += 2) {
      Package p{level[i].weight + level[i + 1].weight, std::move(level[i].members)};
      p.members.insert(p.members.end(), level[i + 1].members.begin(), level[i + 1].members.end());
      pairs.push_back(std::move(p));
    }
    std::vector<Package> merged;
    std::merge(coins.begin(), coins.end(), std::make_move_iterator(pairs.begin()), std::make_move_iterator(pairs.end()),
               std::back_inserter(merged), [](const Package& a, const Package& b) { return a.weight < b.weight; });
    level = std::move(merged);
  }
  std::vector<int> lengths(symbols.size(), 0);
  for (size_t i = 0; i < 2 * symbols.size() - 2; ++i)
    for (const uint16_t m : level[i].members) ++lengths[m];
  return lengths;
}

uint64_t prefix_key(int length, uint32_t bits) { return static_cast<uint64_t>(length) << 32 | bits; }

// The prefix whose page decides a code: all whole bytes before the one the code ends in.
int prefix_length(const Code& c) { return (c.length - 1) / 8 * 8; }

}  // namespace

const Code* CodeBook::find(int symbol) const {
  for (const Code& c : codes)
    if (c.symbol == symbol) return &c;
  return nullptr;
}

CodeBook upstream_code(const Histogram& counts) {
  CodeBook book;
  const std::vector<int> rarest = symbols_by_count(counts);
  if (Tree(counts).codes(&book.codes)) return book;
  for (size_t k = 2; k <= rarest.size(); ++k) {
    Histogram flat = counts;
    for (size_t i = 0; i < k; ++i) flat[static_cast<size_t>(rarest[i])] = 1;
    if (!Tree(flat).codes(&book.codes)) continue;
    for (size_t i = 0; i < k; ++i)
      if (counts[static_cast<size_t>(rarest[i])] > 1) book.flattened.push_back(rarest[i]);
    std::sort(book.flattened.begin(), book.flattened.end());
    return book;
  }
  FETTLE_CHECK(!"257 equal counts make codes of 9 bits");
  return book;
}

CodeBook limited_code(const Histogram& counts, int max_length, int min_length) {
  const std::vector<int> symbols = symbols_by_count(counts);
  FETTLE_CHECK(max_length >= min_length && max_length <= 16 && symbols.size() <= size_t{1} << max_length);
  CodeBook book;
  if (symbols.empty()) return book;
  std::vector<int> lengths(1, 1);
  if (symbols.size() > 1) lengths = package_merge(counts, symbols, max_length);
  for (size_t i = 0; i < symbols.size(); ++i)
    book.codes.push_back({symbols[i], static_cast<uint8_t>(std::max(lengths[i], min_length)), 0});
  std::sort(book.codes.begin(), book.codes.end(),
            [](const Code& a, const Code& b) { return std::tie(a.length, a.symbol) < std::tie(b.length, b.symbol); });
  uint32_t next = 0;
  for (size_t i = 0; i < book.codes.size(); ++i) {
    Code& c = book.codes[i];
    if (i > 0) next <<= c.length - book.codes[i - 1].length;
    c.bits = next++;
  }
  return book;
}

std::vector<uint8_t> build_luts(const CodeBook& book) {
  std::vector<uint64_t> pages = {prefix_key(0, 0)};
  for (const Code& c : book.codes) {
    if (c.symbol == kEnd) continue;
    const int length = prefix_length(c);
    const uint64_t key = prefix_key(length, length == 0 ? 0 : c.bits >> (c.length - length));
    if (std::find(pages.begin(), pages.end(), key) == pages.end()) pages.push_back(key);
  }
  std::stable_sort(pages.begin(), pages.end(), [](uint64_t a, uint64_t b) { return a >> 32 < b >> 32; });
  constexpr int kUnset = -1;
  std::vector<int> values(pages.size() * 256, kUnset);
  for (size_t p = 0; p < pages.size(); ++p) {
    const auto depth = static_cast<int>(pages[p] >> 32);
    for (const Code& c : book.codes) {
      if (c.symbol == kEnd || c.length <= depth) continue;
      const uint64_t aligned = static_cast<uint64_t>(c.bits) << (40 - c.length);  // the code's first bit is bit 39
      if (depth > 0 && aligned >> (40 - depth) != (pages[p] & 0xFFFFFFFFu)) continue;
      const auto byte = static_cast<size_t>(aligned >> (32 - depth) & 0xFF);
      int* entry = &values[p * 256 + byte];
      if (prefix_length(c) == depth) {
        *entry = c.symbol;
      } else {
        const uint64_t next = prefix_key(depth + 8, static_cast<uint32_t>(aligned >> (32 - depth)));
        const auto it = std::find(pages.begin(), pages.end(), next);
        FETTLE_CHECK(it != pages.end());
        *entry = static_cast<int>(256 - (it - pages.begin()));
      }
    }
  }
  std::vector<uint8_t> luts((pages.size() + 1) * 256, 0);
  const auto first = std::find_if(values.begin(), values.end(), [](int v) { return v != kUnset; });
  int current = first == values.end() ? 0 : *first;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] != kUnset) current = values[i];
    luts[i] = static_cast<uint8_t>(current);
  }
  for (const Code& c : book.codes)
    if (c.symbol != kEnd) luts[pages.size() * 256 + static_cast<size_t>(c.symbol)] = c.length;
  return luts;
}

}  // namespace fettle::df11
