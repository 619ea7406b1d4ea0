#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "tensor/df11/code_book.h"

// One compression unit of DFloat11: BF16 weights whose exponents share one prefix code. u = sign 1, exponent 8,
// mantissa 7 bits; the exponents become a bit stream, sign and mantissa one byte per weight. The stream is cut into
// blocks of 4096 bytes and chunks of 8 bytes for the GPU kernel of the paper; a CPU needs the blocks only.
namespace fettle::df11 {

inline constexpr size_t kChunkBytes = 8;
inline constexpr size_t kBlockChunks = 512;
inline constexpr size_t kBlockBytes = kChunkBytes * kBlockChunks;
inline constexpr size_t kBlockBits = 8 * kBlockBytes;
inline constexpr size_t kGapBytes = kBlockChunks * 5 / 8;  // of one block
// Weights per block that upstream's kernel can hold in its 48 KiB of shared memory.
inline constexpr size_t kMaxBlockWeights = 23500;

// The five arrays of a unit as they lie in a file.
struct UnitView {
  std::span<const uint8_t> luts;              // [P + 1][256]
  std::span<const uint8_t> encoded_exponent;  // bit stream, most significant bit first
  std::span<const uint8_t> sign_mantissa;     // [n]
  std::span<const uint8_t> output_positions;  // u32 little-endian: first weight of every block, then n
  std::span<const uint8_t> gaps;              // 5 bits per chunk: offset of the first code that starts in it
};

struct Unit {
  std::vector<uint8_t> luts, encoded_exponent, sign_mantissa, output_positions, gaps;

  UnitView view() const { return {luts, encoded_exponent, sign_mantissa, output_positions, gaps}; }
  size_t bytes() const {
    return luts.size() + encoded_exponent.size() + sign_mantissa.size() + output_positions.size() + gaps.size();
  }
};

enum class CodeMode : uint8_t {
  kUpstream,  // upstream's code: byte-identical files
  kFast,      // at most 11 bits, so that one small table decodes every code; any DFloat11 reader takes it
};

// What an encoded unit is, or why it should be stored as plain BF16.
struct Encoded {
  Unit unit;            // empty when the code cannot hold the weights
  CodeBook book;        // the code used
  std::string refusal;  // empty: fit to be written. Else the reason, for reports
  std::string note;     // what a user may want to know although the unit was written
};

// BF16 values of the unit's matrices, row-major bytes in their order; sizes are even.
using Matrices = std::span<const std::span<const std::byte>>;

Histogram exponent_histogram(Matrices matrices, ThreadPool* pool);

// The arrays for a given code, which must cover all exponents. counts: exponent_histogram() of the matrices.
Unit encode_stream(Matrices matrices, const CodeBook& book);
Unit encode_stream(Matrices matrices, const CodeBook& book, const Histogram& counts);

// Chooses the code and encodes. Refuses exponents from 240 on (values from 2^113, infinities, NaN), codes that need
// more than 17 pages, and units that would not get smaller. Codes so short that a block holds more weights than
// upstream's kernel can take get a minimum length of 2 bits.
Encoded encode_unit(Matrices matrices, CodeMode mode, ThreadPool* pool);

// Decodes any range of a unit. Construction checks everything that does not need decoding: sizes, pages and pointers,
// code lengths, positions. Views must outlive it. Immutable after construction.
class Decoder {
 public:
  // Throws kInput naming file and tensor (`module` + ".luts" etc.), expected and found.
  Decoder(const UnitView& unit, std::string file, std::string module);

  size_t size() const { return unit_.sign_mantissa.size(); }  // weights
  // BF16 bit patterns of weights [begin, end) to out, blocks spread over the pool. Throws kInput when the stream holds
  // no valid codes there or a block does not end where the next one begins.
  void decode(size_t begin, size_t end, uint16_t* out, ThreadPool* pool) const;

 private:
  // Up to four exponents that one 11-bit look-ahead decides.
  struct Step {
    uint8_t symbols[4];
    uint8_t count, bits, pad[2];
  };
  struct Stream;
  static constexpr int kLookahead = 11;

  [[noreturn]] void refuse(std::string_view tensor, const std::string& problem) const;
  void check_luts() const;
  void check_positions();
  void build_table();
  int walk(uint32_t ahead) const;  // exponent of the code at the top of 32 bits, or -1
  size_t block_begin(size_t block) const;
  uint64_t start_bit(size_t block) const;
  bool decode_one(Stream* s) const;
  template <int kStreams>
  void decode_fast(Stream* streams) const;
  void finish(Stream* s) const;
  void decode_blocks(size_t first, size_t last, size_t begin, size_t end, uint16_t* out) const;

  UnitView unit_;
  std::string file_, module_;
  size_t pages_ = 0, blocks_ = 0, starts_ = 0;  // starts_: blocks that have an entry in output_positions
  std::vector<Step> table_;
};

}  // namespace fettle::df11
