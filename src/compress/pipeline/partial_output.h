#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "compress/compress.h"
#include "io/checkpoint.h"

namespace fettle::compress {

// The checkpoint in the making: one shard for what stands outside the blocks, one per block, each written whole and
// renamed, so that after a kill the shards that are there are exactly the finished blocks. config.json is there from
// the start and the index names the shards so far, which makes the folder loadable up to the last finished block.
//   OUT.partial/ model-00001-of-0000N.safetensors (embedding, final norm, head), model-0000(b+2)-of-... (block b),
//                state.json (hash of everything that decides the bytes), block-0000b.json (its report lines)
class PartialOutput {
 public:
  // Continues an existing OUT.partial when `resume`, else refuses one. Throws kInput when it was started with other
  // options or another model (hash differs) or holds files but no state.json, kResource when the disk lacks room for
  // what is still to be written.
  PartialOutput(const std::string& out, const CompressOptions& options, bool resume, const io::ModelFiles& input,
                const io::TensorSource& source, const CompressPlan& plan, const std::string& hash);

  const std::string& path() const { return dir_.path(); }
  int blocks() const { return blocks_; }
  int finished_blocks() const { return finished_; }
  // Report lines of a finished block, as given to write_block.
  Json block_report(int block) const;
  // Everything of block `block`: tensors in `replaced` by name, the rest copied from the input. Then the block counts
  // as finished.
  void write_block(int block, const std::map<std::string, Tensor>& replaced, const Json& report);
  // The shard outside the blocks; written before block 0.
  void write_outside(const std::map<std::string, Tensor>& replaced);
  bool outside_written() const;
  // Writes the manifest, removes the state files, renames to OUT.
  void commit(Json description);

 private:
  void open_state(const std::string& hash);
  std::string shard_name(int shard) const;
  void write_shard(int shard, const std::map<std::string, Tensor>& replaced);
  void write_index() const;

  const io::TensorSource& source_;
  OutputDir dir_;
  int blocks_ = 0, finished_ = 0;
  std::vector<std::vector<io::TensorSpec>> shards_;  // announced tensors; [0] outside the blocks, [b + 1] block b
};

}  // namespace fettle::compress
