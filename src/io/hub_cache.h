#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fettle::io {

// org/name[@revision][:QUANT], the part after an optional hf://.
struct HubId {
  std::string organisation, name;
  std::string revision;  // branch, tag or commit; "main" unless given
  std::string quant;     // "" unless given
};

// nullopt when the text cannot be a hub id.
std::optional<HubId> parse_hub_id(std::string_view text);

// Snapshot folder of an id in a cache folder: models--ORG--NAME/refs/REVISION names the commit, snapshots/COMMIT holds
// the files. Throws kInput saying which folder is missing.
std::string find_snapshot(const HubId& id, const std::string& cache);

// Picks one of several GGUF file names (sorted): the first whose stem ends with `quant`, whatever the case; without a
// quant Q4_K_M, else Q8_0, else the first. Only first parts of split files count. Throws kInput listing the names when
// the wanted quant is not there.
std::string choose_gguf(const std::vector<std::string>& names, const std::string& quant, const std::string& source);

}  // namespace fettle::io
