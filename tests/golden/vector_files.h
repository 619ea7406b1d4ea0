#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "io/safetensors.h"
#include "io/test_util.h"

// Golden tests over every vector file of a folder.
namespace fettle::golden {

using io::SafetensorsFile;

inline void for_each_file(const std::string& folder, const std::string& prefix,
                          const std::function<void(const SafetensorsFile&)>& check) {
  size_t found = 0;
  for (const std::string& dir : io::vector_dirs(folder))
    for (const std::string& name : list_directory(dir)) {
      if (!name.starts_with(prefix) || !name.ends_with(".safetensors")) continue;
      SCOPED_TRACE(path_join(dir, name));
      check(SafetensorsFile::open(path_join(dir, name)));
      ++found;
    }
  EXPECT_GT(found, 0u) << "no vectors named " << prefix << "*.safetensors in " << folder;
}

// Names without `suffix` of all tensors that end in it.
inline std::vector<std::string> stems(const SafetensorsFile& f, const std::string& suffix) {
  std::vector<std::string> out;
  for (const auto& entry : f.entries()) {
    const std::string name(entry.name);
    if (name.ends_with(suffix)) out.push_back(name.substr(0, name.size() - suffix.size()));
  }
  EXPECT_FALSE(out.empty()) << "no tensor ends in " << suffix;
  return out;
}

inline bool has(const SafetensorsFile& f, const std::string& name) {
  for (const auto& entry : f.entries())
    if (entry.name == name) return true;
  return false;
}

template <typename T>
std::vector<T> values(const SafetensorsFile& f, const std::string& name) {
  const Tensor t = f.tensor(name);
  EXPECT_EQ(dtype_bytes(t.dtype()), sizeof(T)) << name;
  std::vector<T> v(static_cast<size_t>(t.numel()));
  if (!v.empty()) std::memcpy(v.data(), t.bytes().data(), t.nbytes());
  return v;
}

// A matrix tensor of any float type, in F32.
struct Matrix {
  std::vector<float> data;
  size_t rows = 0, cols = 0;
  MatView<const float> view() const { return {data.data(), rows, cols}; }
};
inline Matrix matrix(const SafetensorsFile& f, const std::string& name) {
  const Tensor t = f.tensor(name);
  return {t.to_f32(), static_cast<size_t>(t.dim(0)), static_cast<size_t>(t.dim(1))};
}

inline double agreement(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  EXPECT_EQ(a.size(), b.size());
  size_t same = 0;
  for (size_t i = 0; i < a.size(); ++i) same += a[i] == b[i];
  return static_cast<double>(same) / static_cast<double>(a.size());
}

// Two codes per byte, low nibble first.
inline std::vector<uint8_t> unpack_nibbles(std::span<const uint8_t> packed) {
  std::vector<uint8_t> codes;
  for (const uint8_t b : packed) {
    codes.push_back(b & 15);
    codes.push_back(b >> 4);
  }
  return codes;
}

// Lowest bit first.
inline std::vector<uint8_t> unpack_bits(std::span<const uint8_t> packed) {
  std::vector<uint8_t> bits;
  for (const uint8_t b : packed)
    for (int i = 0; i < 8; ++i) bits.push_back(b >> i & 1);
  return bits;
}

}  // namespace fettle::golden
