#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/checked.h"
#include "base/error.h"
#include "tensor/df11/unit.h"

namespace fettle::df11 {
namespace {

uint16_t word_at(const std::byte* p) {
  uint16_t u;
  std::memcpy(&u, p, sizeof u);
  return u;
}

uint8_t exponent_of(uint16_t u) { return static_cast<uint8_t>(u >> 7); }
uint8_t sign_mantissa_of(uint16_t u) { return static_cast<uint8_t>((u >> 8 & 0x80) | (u & 0x7F)); }

size_t count_of(Matrices matrices) {
  size_t n = 0;
  for (const auto& m : matrices) n += m.size() / 2;
  return n;
}

// The bit stream with its gaps and positions.
class StreamWriter {
 public:
  struct Entry {
    uint32_t bits = 0, length = 0;
  };

  StreamWriter(uint64_t bits, Unit* unit) : unit_(*unit) {
    const auto bytes = static_cast<size_t>((bits + 7) / 8);
    blocks_ = ceil_div(bytes, kBlockBytes);
    unit_.encoded_exponent.resize(bytes + kChunkBytes);  // whole words are stored
    gaps_.assign(blocks_ * kBlockChunks + 1, 0);
    bytes_ = bytes;
  }

  // The chunk in which the next code starts; codes have at most 32 bits, so none is skipped.
  void begin_chunk(uint32_t index, uint32_t gap) {
    gaps_[chunks_] = static_cast<uint8_t>(gap);
    if (chunks_ % kBlockChunks == 0) put_position(index);
    ++chunks_;
  }

  // Codes of the exponents of consecutive weights, the first of which is weight `index` of the unit.
  void put_all(std::span<const std::byte> weights, uint32_t index, const Entry* table) {
    uint64_t word = word_;  // in registers: byte stores could alias members
    uint32_t used = used_;
    const size_t n = weights.size() / 2;
    for (size_t i = 0; i < n; ++i) {
      if (starts_chunk_) {
        begin_chunk(index + static_cast<uint32_t>(i), used);
        starts_chunk_ = false;
      }
      // Up to the code that fills the word.
      Entry e{};
      for (; i < n; ++i) {
        e = table[exponent_of(word_at(weights.data() + 2 * i))];
        used += e.length;
        if (used >= 64) break;
        word = word << e.length | e.bits;
      }
      if (used < 64) break;
      used -= 64;
      store(word << (e.length - used) | static_cast<uint64_t>(e.bits) >> used);
      word = e.bits;  // its upper bits are shifted out before the next store
      starts_chunk_ = true;
    }
    word_ = word;
    used_ = used;
  }

  // Fills the last byte with the first bits of the end symbol's code, then zeros.
  void finish(uint32_t n, const Code* end) {
    if (used_ % 8 != 0) {
      if (starts_chunk_) begin_chunk(n, used_);
      const uint32_t missing = 8 - used_ % 8;
      uint32_t fill = 0;
      if (end != nullptr)
        fill = end->length >= missing ? end->bits >> (end->length - missing) : end->bits << (missing - end->length);
      word_ = word_ << missing | fill;
      used_ += missing;
    }
    if (used_ > 0) store(used_ == 64 ? word_ : word_ << (64 - used_));
    unit_.encoded_exponent.resize(bytes_);
    put_position(n);
    pack_gaps();
  }

 private:
  void store(uint64_t word) {
    const uint64_t big = __builtin_bswap64(word);
    std::memcpy(unit_.encoded_exponent.data() + stored_, &big, sizeof big);
    stored_ += sizeof big;
  }

  void put_position(uint32_t index) {
    for (int i = 0; i < 4; ++i) unit_.output_positions.push_back(static_cast<uint8_t>(index >> (8 * i)));
  }

  void pack_gaps() {
    unit_.gaps.assign(blocks_ * kGapBytes, 0);
    for (size_t i = 0; i < blocks_ * kBlockChunks; ++i) {
      const size_t bit = 5 * i;
      const auto two = static_cast<uint16_t>(gaps_[i] << (11 - bit % 8));
      unit_.gaps[bit / 8] |= static_cast<uint8_t>(two >> 8);
      if (bit % 8 > 3) unit_.gaps[bit / 8 + 1] |= static_cast<uint8_t>(two);
    }
  }

  Unit& unit_;
  size_t bytes_ = 0, blocks_ = 0, stored_ = 0, chunks_ = 0;
  std::vector<uint8_t> gaps_;
  uint64_t word_ = 0;
  uint32_t used_ = 0;  // bits in word_
  bool starts_chunk_ = true;
};

size_t largest_block(const Unit& unit) {
  size_t largest = 0;
  uint32_t before = 0;
  for (size_t i = 0; i + 4 <= unit.output_positions.size(); i += 4) {
    uint32_t p = 0;
    for (size_t j = 0; j < 4; ++j) p |= static_cast<uint32_t>(unit.output_positions[i + j]) << (8 * j);
    largest = std::max<size_t>(largest, p - before);
    before = p;
  }
  return largest;
}

}  // namespace

Histogram exponent_histogram(Matrices matrices, ThreadPool* pool) {
  constexpr size_t kGrain = size_t{1} << 18;
  Histogram total{};
  std::mutex mutex;  // sums of integers: any order gives the same
  for (const auto& m : matrices) {
    const auto body = [&](size_t begin, size_t end) {
      Histogram part[4] = {};  // equal neighbours would wait for each other's counter
      for (size_t i = begin; i < end; ++i) ++part[i % 4][exponent_of(word_at(m.data() + 2 * i))];
      const std::lock_guard lock(mutex);
      for (size_t s = 0; s < total.size(); ++s)
        for (const Histogram& h : part) total[s] += h[s];
    };
    if (pool != nullptr) {
      pool->parallel_chunks(m.size() / 2, kGrain, body);
    } else {
      body(0, m.size() / 2);
    }
  }
  return total;
}

Unit encode_stream(Matrices matrices, const CodeBook& book) {
  return encode_stream(matrices, book, exponent_histogram(matrices, nullptr));
}

Unit encode_stream(Matrices matrices, const CodeBook& book, const Histogram& counts) {
  std::array<StreamWriter::Entry, 256> table{};
  for (const Code& c : book.codes)
    if (c.symbol != kEnd) table[static_cast<size_t>(c.symbol)] = {c.bits, c.length};
  uint64_t bits = 0;
  for (size_t s = 0; s < counts.size(); ++s) {
    FETTLE_CHECK(counts[s] == 0 || table[s].length > 0);
    bits += counts[s] * table[s].length;
  }
  const size_t n = count_of(matrices);
  if (n > UINT32_MAX)
    fail(ErrorCode::kInput, "DFloat11: a unit of {} weights: expected at most {}; use --unit matrix", n, UINT32_MAX);
  Unit unit;
  unit.luts = build_luts(book);
  unit.sign_mantissa.resize(n);
  StreamWriter writer(bits, &unit);
  uint32_t index = 0;
  for (const auto& m : matrices) {
    writer.put_all(m, index, table.data());
    uint8_t* sm = unit.sign_mantissa.data() + index;
    const size_t count = m.size() / 2;
    for (size_t i = 0; i < count; ++i) sm[i] = sign_mantissa_of(word_at(m.data() + 2 * i));
    index += static_cast<uint32_t>(count);
  }
  writer.finish(index, book.find(kEnd));
  return unit;
}

Encoded encode_unit(Matrices matrices, CodeMode mode, ThreadPool* pool) {
  Encoded out;
  const Histogram counts = exponent_histogram(matrices, pool);
  size_t largest = 0;
  for (size_t s = 0; s < counts.size(); ++s)
    if (counts[s] > 0) largest = s;
  if (largest >= static_cast<size_t>(kFirstPointer)) {
    out.refusal =
        fmt::format("holds exponent {} (values from 2^113, infinity or NaN); the format ends at 239", largest);
    return out;
  }
  out.book = mode == CodeMode::kUpstream ? upstream_code(counts) : limited_code(counts);
  const size_t pages = build_luts(out.book).size() / 256 - 1;
  if (pages > kMaxPages) {
    out.refusal = fmt::format("its code needs {} table pages; the format has {}", pages, kMaxPages);
    return out;
  }
  out.unit = encode_stream(matrices, out.book, counts);
  if (const size_t block = largest_block(out.unit); block > kMaxBlockWeights) {
    out.book = limited_code(counts, 11, 2);
    out.unit = encode_stream(matrices, out.book, counts);
    out.note = fmt::format(
        "few exponents: blocks of {} weights would exceed the shared memory of upstream's kernel; written with codes "
        "of "
        "at least 2 bits",
        block);
  }
  const size_t plain = 2 * count_of(matrices);
  if (out.unit.bytes() >= plain)
    out.refusal = fmt::format("would take {} bytes instead of {}", out.unit.bytes(), plain);
  return out;
}

}  // namespace fettle::df11
