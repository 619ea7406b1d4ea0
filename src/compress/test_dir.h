#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace fettle::compress::testing {

// A fresh folder per test, removed afterwards.
class TempDir {
 public:
  TempDir() {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::string(::testing::TempDir()) + "fettle_" + info->test_suite_name() + "_" + info->name() + "_" +
            std::to_string(::getpid());
    for (char& c : path_)
      if (c == '/' && &c > path_.data() + std::string(::testing::TempDir()).size()) c = '_';
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace fettle::compress::testing
