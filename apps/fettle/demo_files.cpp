#include "demo_files.h"

#include <cstdlib>
#include <filesystem>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "version.h"

namespace fettle::cli {

DemoFiles find_demo_files() {
  std::vector<std::string> places;
  if (const char* dir = std::getenv("FETTLE_DEMO_DIR")) places.emplace_back(dir);
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) places.push_back((program.parent_path().parent_path() / "share/fettle/models").string());
  places.emplace_back(kSourceModels);
  places.emplace_back(kInstalledModels);
  for (const std::string& place : places) {
    DemoFiles files{path_join(place, "books-5m"), path_join(place, "text/the-wind-in-the-willows.txt")};
    if (file_exists(path_join(files.model, "config.json")) && file_exists(files.text)) return files;
  }
  fail(ErrorCode::kInput, "the demo's model and text were not found; looked in {} (set FETTLE_DEMO_DIR)",
       fmt::join(places, ", "));
}

}  // namespace fettle::cli
