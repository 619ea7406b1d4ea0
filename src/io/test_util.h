#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"

namespace fettle::io {

// Every existing directory that may hold vectors: tests/data/vectors/<name> and $FETTLE_VECTORS_DIR/<name>.
inline std::vector<std::string> vector_dirs(const std::string& name) {
  std::vector<std::string> dirs = {std::string(FETTLE_TEST_DATA) + "/vectors/" + name};
  if (const char* more = std::getenv("FETTLE_VECTORS_DIR")) dirs.push_back(std::string(more) + "/" + name);
  std::erase_if(dirs, [](const std::string& d) { return !is_directory(d); });
  return dirs;
}

// Subdirectories of 00-formats whose name starts with `prefix`, in every vector place.
inline std::vector<std::string> format_vectors(std::string_view prefix) {
  std::vector<std::string> out;
  for (const std::string& dir : vector_dirs("00-formats"))
    for (const std::string& name : list_directory(dir))
      if (name.starts_with(prefix) && is_directory(path_join(dir, name))) out.push_back(path_join(dir, name));
  return out;
}

// A scratch directory, removed at the end of the test.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "fettle-io-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempDir() {
    std::error_code ec;
    std::filesystem::remove_all(path_, ec);
  }
  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return path_join(path_, name); }
  std::string write(std::string_view name, std::string_view content) const {
    const std::string path = file(name);
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_file_atomic(path, content);
    return path;
  }

 private:
  std::string path_;
};

// The message of the kInput error that `f` throws; a test failure when it throws nothing or something else.
template <typename F>
std::string input_error(F f, ErrorCode code = ErrorCode::kInput) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(error_name(e.code()), error_name(code)) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing thrown";
  return {};
}

// Bytes requested from operator new on this thread while it lives (src/io/test_alloc.cpp).
class AllocationMeter {
 public:
  AllocationMeter();
  size_t bytes() const;

 private:
  size_t start_;
};

}  // namespace fettle::io
