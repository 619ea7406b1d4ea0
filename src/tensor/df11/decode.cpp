#include <algorithm>
#include <cstring>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/df11/unit.h"

namespace fettle::df11 {
namespace {

constexpr int kStreams = 4;       // blocks in flight per thread: their table look-ups overlap
constexpr size_t kStepRoom = 20;  // five steps of up to four exponents
constexpr size_t kItemBlocks = 2 * kStreams;

uint64_t load_be64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return __builtin_bswap64(v);
}

// u = sign, exponent, mantissa.
void merge(const uint8_t* exponents, const uint8_t* sm, size_t n, uint16_t* out) {
  for (size_t i = 0; i < n; ++i)
    out[i] = static_cast<uint16_t>((sm[i] & 0x80) << 8 | exponents[i] << 7 | (sm[i] & 0x7F));
}

}  // namespace

// One block being decoded.
struct Decoder::Stream {
  size_t block;
  uint64_t bit;
  uint8_t* out;
  uint8_t* end;
};

Decoder::Decoder(const UnitView& unit, std::string file, std::string module)
    : unit_(unit), file_(std::move(file)), module_(std::move(module)) {
  check_luts();
  check_positions();
  build_table();
}

void Decoder::refuse(std::string_view tensor, const std::string& problem) const {
  fail(ErrorCode::kInput, "{}: tensor \"{}.{}\": {}", file_, printable(module_), tensor, problem);
}

void Decoder::check_luts() const {
  const size_t rows = unit_.luts.size() / 256;
  if (unit_.luts.size() % 256 != 0 || rows < 2 || rows > kMaxPages + 1)
    refuse("luts", fmt::format("expected 2 to {} rows of 256, found {} bytes", kMaxPages + 1, unit_.luts.size()));
  const uint8_t* lengths = unit_.luts.data() + (rows - 1) * 256;
  for (size_t s = 0; s < 256; ++s)
    if (lengths[s] > kMaxLength)
      refuse("luts",
             fmt::format("exponent {}: expected a code of at most {} bits, found {}", s, kMaxLength, lengths[s]));
  for (size_t i = 0; i < (rows - 1) * 256; ++i) {
    const uint8_t v = unit_.luts[i];
    const size_t page = 256u - v;
    if (v >= kFirstPointer && page >= rows - 1)
      refuse("luts", fmt::format("page {} entry {}: expected one of {} pages, found page {}", i / 256, i % 256,
                                 rows - 1, page));
    if (v < kFirstPointer && lengths[v] == 0)
      refuse("luts", fmt::format("page {} entry {}: exponent {} has a code of length 0", i / 256, i % 256, v));
  }
}

void Decoder::check_positions() {
  pages_ = unit_.luts.size() / 256 - 1;
  const size_t n = size(), bytes = unit_.encoded_exponent.size();
  blocks_ = ceil_div(bytes, kBlockBytes);
  if (unit_.gaps.size() != blocks_ * kGapBytes)
    refuse("gaps", fmt::format("expected {} bytes for {} bytes of codes, found {}", blocks_ * kGapBytes, bytes,
                               unit_.gaps.size()));
  // A last block in which no code starts may have no entry.
  const size_t entries = unit_.output_positions.size() / 4;
  if (unit_.output_positions.size() % 4 != 0 || (entries != blocks_ + 1 && (blocks_ == 0 || entries != blocks_)))
    refuse("output_positions",
           fmt::format("expected {} entries of 4 bytes, found {} bytes", blocks_ + 1, unit_.output_positions.size()));
  starts_ = entries - 1;
  if (starts_ == 0 && n > 0)
    refuse("encoded_exponent", fmt::format("expected codes of {} weights, found {} bytes", n, bytes));
  size_t before = 0;
  for (size_t b = 0; b < starts_; ++b) {
    const size_t at = block_begin(b);
    const size_t limit = b == 0 ? 0 : std::min(n, before + kBlockBits);  // codes have at least one bit
    if (at < before || at > limit)
      refuse("output_positions",
             fmt::format("entry {}: expected a value from {} to {}, found {}", b, before, limit, at));
    before = at;
  }
  if (n - before > kBlockBits)
    refuse("output_positions",
           fmt::format("the last block would hold {} weights; expected at most {}", n - before, kBlockBits));
}

// Emulates the page walk on every look-ahead pattern; a code must fit entirely to count. Whatever bits follow must lead
// to the same exponent: entries of the end symbol repeat their neighbour, so that one continuation alone may look like
// a short code.
void Decoder::build_table() {
  table_.resize(size_t{1} << kLookahead);
  const uint8_t* lengths = unit_.luts.data() + pages_ * 256;
  for (uint32_t pattern = 0; pattern < table_.size(); ++pattern) {
    Step step{};
    while (step.count < 4) {
      const uint32_t zeros = pattern << (32 - kLookahead) << step.bits;
      const uint32_t ones = zeros | ((uint32_t{1} << (32 - kLookahead) << step.bits) - 1);
      const int symbol = walk(zeros);
      if (symbol < 0 || walk(ones) != symbol) break;
      const int bits = step.bits + lengths[symbol];
      if (bits > kLookahead) break;
      step.symbols[step.count++] = static_cast<uint8_t>(symbol);
      step.bits = static_cast<uint8_t>(bits);
    }
    table_[pattern] = step;
  }
}

int Decoder::walk(uint32_t ahead) const {
  size_t page = 0;
  for (int shift = 24; shift >= 0; shift -= 8) {
    const uint8_t v = unit_.luts[page * 256 + (ahead >> shift & 0xFF)];
    if (v < kFirstPointer) return v;
    page = 256u - v;
  }
  return -1;
}

size_t Decoder::block_begin(size_t block) const {
  if (block >= starts_) return size();
  uint32_t at = 0;
  for (size_t i = 0; i < 4; ++i) at |= static_cast<uint32_t>(unit_.output_positions[4 * block + i]) << (8 * i);
  return at;
}

uint64_t Decoder::start_bit(size_t block) const {
  return static_cast<uint64_t>(block) * kBlockBits + (unit_.gaps[block * kGapBytes] >> 3);
}

// The page walk at the stream's position. False when no code lies there.
bool Decoder::decode_one(Stream* s) const {
  const std::span<const uint8_t> codes = unit_.encoded_exponent;
  const auto byte = static_cast<size_t>(s->bit >> 3);
  if (byte >= codes.size()) return false;
  uint8_t window[8] = {};
  std::memcpy(window, codes.data() + byte, std::min<size_t>(8, codes.size() - byte));
  const auto ahead = static_cast<uint32_t>(load_be64(window) << (s->bit & 7) >> 32);
  const int symbol = walk(ahead);
  if (symbol < 0) return false;
  *s->out++ = static_cast<uint8_t>(symbol);
  s->bit += unit_.luts[pages_ * 256 + static_cast<size_t>(symbol)];
  return true;
}

// Five table steps per stream and round, as long as all streams have room. A step that finds no whole code in its 11
// bits advances nothing; then the walk takes over, and leaves a stream without a valid code for finish() to report.
template <int kCount>
void Decoder::decode_fast(Stream* streams) const {
  const uint8_t* codes = unit_.encoded_exponent.data();
  const size_t size = unit_.encoded_exponent.size();
  const Step* table = table_.data();
  Stream s[kCount];
  std::copy_n(streams, kCount, s);
  bool valid = true;
  while (valid) {
    uint64_t ahead[kCount];
    bool room = true;
    for (int i = 0; i < kCount; ++i)
      room &= static_cast<size_t>(s[i].end - s[i].out) >= kStepRoom && (s[i].bit >> 3) + 8 <= size;
    if (!room) break;
    for (int i = 0; i < kCount; ++i) ahead[i] = load_be64(codes + (s[i].bit >> 3)) << (s[i].bit & 7);
    uint64_t last[kCount] = {};
    for (int step = 0; step < 5; ++step)
      for (int i = 0; i < kCount; ++i) {
        uint64_t e;
        std::memcpy(&e, &table[ahead[i] >> (64 - kLookahead)], sizeof e);
        std::memcpy(s[i].out, &e, 4);
        last[i] = e >> 32 & 0xFF;
        const uint64_t bits = e >> 40 & 0xFF;
        s[i].out += last[i];
        s[i].bit += bits;
        ahead[i] <<= bits;
      }
    for (int i = 0; i < kCount; ++i)
      if (last[i] == 0) valid &= decode_one(&s[i]);
  }
  std::copy_n(s, kCount, streams);
}

void Decoder::finish(Stream* s) const {
  while (s->out < s->end)
    if (!decode_one(s))
      refuse("encoded_exponent",
             fmt::format("block {}: {} weights are missing at bit {}: the stream is cut off or holds "
                         "a pattern that is no code",
                         s->block, s->end - s->out, s->bit));
  const uint64_t total = 8 * static_cast<uint64_t>(unit_.encoded_exponent.size());
  const bool last = s->block + 1 >= starts_;
  if (last ? s->bit > total : s->bit != start_bit(s->block + 1))
    refuse("gaps",
           fmt::format("block {} ends at bit {}, but {} at bit {}", s->block, s->bit,
                       last ? "the stream ends" : "the next one begins", last ? total : start_bit(s->block + 1)));
}

// Blocks [first, last), at most kStreams of them; writes what lies in [begin, end) of the unit.
void Decoder::decode_blocks(size_t first, size_t last, size_t begin, size_t end, uint16_t* out) const {
  static_assert(sizeof(Step) == 8);
  thread_local std::vector<uint8_t> exponents;
  constexpr size_t kRoom = kBlockBits + 32;
  exponents.resize(kStreams * kRoom);
  Stream streams[kStreams];
  const size_t count = last - first;
  for (size_t i = 0; i < count; ++i) {
    uint8_t* to = exponents.data() + i * kRoom;
    streams[i] = {first + i, start_bit(first + i), to, to + (block_begin(first + i + 1) - block_begin(first + i))};
  }
  if (count == kStreams) decode_fast<kStreams>(streams);
  for (size_t i = 0; i < count; ++i) {
    decode_fast<1>(&streams[i]);
    finish(&streams[i]);
    const size_t block_at = block_begin(first + i);
    const size_t from = std::max(begin, block_at), to = std::min(end, block_begin(first + i + 1));
    if (from >= to) continue;
    merge(exponents.data() + i * kRoom + (from - block_at), unit_.sign_mantissa.data() + from, to - from,
          out + (from - begin));
  }
}

void Decoder::decode(size_t begin, size_t end, uint16_t* out, ThreadPool* pool) const {
  FETTLE_CHECK(begin <= end && end <= size());
  if (begin == end) return;
  // The last block that begins at or before `begin`, and the first one that begins at or after `end`.
  const auto first_after = [&](size_t element) {
    size_t low = 0, high = starts_;
    while (low < high) {
      const size_t mid = (low + high) / 2;
      block_begin(mid) > element ? high = mid : low = mid + 1;
    }
    return low;
  };
  const size_t first = first_after(begin) - 1, last = first_after(end - 1);
  const auto body = [&](size_t from, size_t to) {
    for (size_t b = from; b < to; b += kStreams)
      decode_blocks(first + b, first + std::min(b + kStreams, to), begin, end, out);
  };
  if (pool != nullptr) {
    pool->parallel_chunks(last - first, kItemBlocks, body);
  } else {
    body(0, last - first);
  }
}

}  // namespace fettle::df11
