#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "scan.h"

// The layer rule: a file includes its own room and rooms of lower rank, never one of the same or a higher rank.
namespace source_rules {

// Room name -> rank (0 lowest). `text`: one rank per line, rooms separated by spaces. Throws std::runtime_error when a
// room is listed twice.
std::map<std::string, int, std::less<>> parse_layers(std::string_view text);

// Checks every include line and every `fettle_room(... DEPS ...)` below `src`, whose ranks stand in src/LAYERS:
// upward and sideways includes, rooms without a rank, and includes with "..".
std::vector<Violation> check_layers(const std::filesystem::path& src);

}  // namespace source_rules
