#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <set>

#include "base/aligned.h"
#include "base/cpu.h"
#include "io/safetensors.h"
#include "io/test_util.h"
#include "kernels/attention.h"
#include "kernels/exp2.h"

// Vectors of an independent f64 implementation; meaning and tolerances in the README beside them.
namespace fettle::kernels {
namespace {

struct VectorFile {
  io::SafetensorsFile file;
  explicit VectorFile(const std::string& path) : file(io::SafetensorsFile::open(path)) {}

  std::vector<float> f32(const std::string& name) const { return file.tensor(name).to_f32(); }
  template <typename T>
  std::vector<T> values(const std::string& name) const {
    const Tensor t = file.tensor(name).copy();
    return {t.data<T>(), t.data<T>() + t.numel()};
  }
  size_t dim(const std::string& name, size_t i) const { return static_cast<size_t>(file.tensor(name).dim(i)); }
  bool has(const std::string& name) const { return file.find(name) != nullptr; }
  size_t metadata(const std::string& key) const {
    for (const auto& [k, v] : file.metadata())
      if (k == key) return static_cast<size_t>(std::stoul(v));
    ADD_FAILURE() << file.path() << ": metadata '" << key << "' is missing";
    return 0;
  }
};

// Runs body for every file, at every level of the machine and with several threads.
template <class Body>
void for_each_file(const std::string& prefix, const Body& body) {
  std::vector<std::string> files;
  for (const std::string& dir : io::vector_dirs("flash-attention-4"))
    for (const std::string& name : list_directory(dir))
      if (name.starts_with(prefix) && name.ends_with(".safetensors")) files.push_back(path_join(dir, name));
  ASSERT_FALSE(files.empty()) << "no " << prefix << "*.safetensors";
  for (const std::string& path : files)
    for (Isa isa : supported_isas())
      for (int threads : {1, 2, 5}) {
        SCOPED_TRACE(testing::Message() << path << " " << isa_name(isa) << " threads " << threads);
        force_isa(isa);
        ThreadPool pool(threads);
        body(VectorFile(path), pool);
      }
  unforce_isa();
}

// Pages of one sequence, everything outside the stored rows NaN.
class Pages {
 public:
  Pages(DType dtype, size_t page_slots, size_t heads, size_t dim, size_t n) : layout_{dtype, page_slots, dim, dim} {
    page_bytes_ = heads * layout_.head_bytes() + kPageSlackBytes;
    const size_t pages = (n + page_slots - 1) / page_slots;
    memory_.resize(pages * page_bytes_);
    std::fill(memory_.begin(), memory_.end(), std::byte{0xFF});
    for (size_t p = 0; p < pages; ++p) pages_.push_back(memory_.data() + p * page_bytes_);
    view_.pages = pages_.data();
    view_.n_slots = n;
    view_.layout = layout_;
    view_.heads = heads;
    view_.head_stride = layout_.head_bytes();
  }
  std::byte* head(size_t slot, size_t h) {
    return memory_.data() + slot / layout_.slots * page_bytes_ + h * layout_.head_bytes();
  }
  void store(size_t slot, size_t h, const float* k, const float* v) {
    store_kv_row(layout_, head(slot, h), slot % layout_.slots, k, v);
  }
  const PageLayout& layout() const { return layout_; }
  const KvView& view() const { return view_; }

 private:
  PageLayout layout_;
  size_t page_bytes_ = 0;
  AlignedBuffer<std::byte> memory_;
  std::vector<const std::byte*> pages_;
  KvView view_;
};

void expect_near(std::span<const float> got, std::span<const float> want, double tolerance, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isinf(want[i])) {
      ASSERT_EQ(got[i], want[i]) << what << " at " << i;
    } else {
      ASSERT_NEAR(got[i], want[i], tolerance) << what << " at " << i;
    }
  }
}

TEST(FlashAttention4, Exp2BitsOfTheReferenceAndErrorOfTheVectorLevels) {
  for_each_file("exp2", [](const VectorFile& f, ThreadPool&) {
    const auto x = f.f32("x");
    const auto exact = f.values<double>("exact");
    const auto clamped = f.values<uint8_t>("note_clamped");
    const double bounds[] = {1e-4, 4e-6, 2e-7};
    for (int degree : {3, 4, 5}) {
      const auto bits = f.values<int32_t>("deg" + std::to_string(degree) + ".bits");
      std::vector<float> y(x.size());
      exp2(x, degree, y);
      for (size_t i = 0; i < x.size(); ++i) {
        const float reference = degree == 3   ? exp2_reference<3>(x[i])
                                : degree == 4 ? exp2_reference<4>(x[i])
                                              : exp2_reference<5>(x[i]);
        ASSERT_EQ(std::bit_cast<int32_t>(reference), bits[i]) << "x = " << x[i] << " degree " << degree;
        if (clamped[i]) {
          ASSERT_EQ(y[i], 0.0f) << "x = " << x[i];
        }
        if (x[i] < -126 || x[i] > 127) continue;
        ASSERT_NEAR(y[i] / exact[i], 1.0, bounds[degree - 3]) << "x = " << x[i] << " degree " << degree;
      }
    }
  });
}

TEST(FlashAttention4, LazySoftmax) {
  for_each_file("lazy_softmax", [](const VectorFile& f, ThreadPool& pool) {
    const size_t tile = f.metadata("tile_n");
    std::set<std::string> cases;
    for (const auto& entry : f.file.entries()) cases.insert(entry.name.substr(0, entry.name.find('.')));
    AttnScratch scratch;
    for (const std::string& name : cases) {
      SCOPED_TRACE(name);
      const auto q = f.f32(name + ".q"), k = f.f32(name + ".k"), v = f.f32(name + ".v");
      const size_t n = f.dim(name + ".q", 0), d = f.dim(name + ".q", 1), keys = f.dim(name + ".k", 0);
      Pages pages(DType::kF32, 16, 1, d, keys);
      for (size_t j = 0; j < keys; ++j) pages.store(j, 0, &k[j * d], &v[j * d]);
      const size_t words = (keys + 63) / 64;
      std::vector<uint64_t> bits;
      if (f.has(name + ".mask")) {
        const auto mask = f.values<uint8_t>(name + ".mask");
        bits.resize(n * words);
        for (size_t i = 0; i < n; ++i)
          for (size_t key = 0; key < keys; ++key)
            bits[i * words + key / 64] |= static_cast<uint64_t>(mask[i * keys + key]) << key % 64;
      }
      for (int tau : {0, 8}) {
        AttnParams params;
        params.heads = 1;
        params.scale = 1.0f / std::sqrt(static_cast<float>(d));
        params.causal = false;
        params.rescale_threshold = static_cast<float>(tau);
        params.key_block = tile;
        params.segment = 0;
        std::vector<float> out(n * d), lse(n), reference(n), sum(n);
        std::vector<uint32_t> rescales(n);
        const AttnStats stats{rescales, reference, sum};
        AttnSequence sequence;
        sequence.kv = pages.view();
        sequence.n_rows = n;
        sequence.mask_words = words;
        if (!bits.empty()) sequence.mask_bits = bits;
        attention({&sequence, 1}, params, {q.data(), n, d}, pool, scratch, {out.data(), n, d}, {lse.data(), n, 1},
                  &stats);
        const std::string prefix = name + ".tau" + std::to_string(tau);
        expect_near(out, f.f32(name + ".out"), 1e-5, "out");
        expect_near(lse, f.f32(name + ".lse"), 1e-5, "lse");
        const auto want_rescales = f.values<int32_t>(prefix + ".rescales");
        const auto want_reference = f.f32(prefix + ".ref_max"), want_sum = f.f32(prefix + ".sum");
        for (size_t i = 0; i < n; ++i) {
          ASSERT_EQ(static_cast<int32_t>(rescales[i]), want_rescales[i]) << prefix << " row " << i;
          if (std::isinf(want_reference[i])) {
            ASSERT_EQ(reference[i], want_reference[i]);
          } else {
            ASSERT_NEAR(reference[i], want_reference[i], 1e-5 * std::max(1.0f, std::fabs(want_reference[i])));
          }
          ASSERT_NEAR(sum[i], want_sum[i], 1e-4 * want_sum[i]) << prefix << " row " << i;
        }
      }
    }
  });
}

TEST(FlashAttention4, PagedGqaAndItsSplits) {
  for_each_file("paged_gqa", [](const VectorFile& f, ThreadPool& pool) {
    const auto q = f.f32("q"), k = f.f32("k_pages"), v = f.f32("v_pages");
    const auto table = f.values<int32_t>("page_table"), lengths = f.values<int32_t>("seqlens");
    const size_t batch = f.dim("q", 0), rows = f.dim("q", 1), heads = f.dim("q", 2), d = f.dim("q", 3);
    const size_t page = f.dim("k_pages", 1), kv_heads = f.dim("k_pages", 2), max_pages = f.dim("page_table", 1);
    const size_t splits = f.dim("split.out", 0);
    for (size_t our_page : {16, 64}) {
      std::vector<std::unique_ptr<Pages>> pages;
      std::vector<AttnSequence> sequences(batch);
      for (size_t b = 0; b < batch; ++b) {
        const auto n = static_cast<size_t>(lengths[b]);
        pages.push_back(std::make_unique<Pages>(DType::kF32, our_page, kv_heads, d, n));
        for (size_t j = 0; j < n; ++j)
          for (size_t h = 0; h < kv_heads; ++h) {
            const auto from = static_cast<size_t>(table[b * max_pages + j / page]) * page + j % page;
            pages[b]->store(j, h, &k[(from * kv_heads + h) * d], &v[(from * kv_heads + h) * d]);
          }
        sequences[b].kv = pages[b]->view();
        sequences[b].first_row = b * rows;
        sequences[b].n_rows = rows;
      }
      // Bottom-right causal. A query may lie before the first key, so key limits instead of positions.
      std::vector<std::vector<uint32_t>> limits(batch);
      for (size_t b = 0; b < batch; ++b) {
        for (size_t i = 0; i < rows; ++i) {
          const int64_t limit = lengths[b] - static_cast<int64_t>(rows) + static_cast<int64_t>(i) + 1;
          limits[b].push_back(static_cast<uint32_t>(std::max<int64_t>(0, limit)));
        }
        sequences[b].key_limits = limits[b];
      }
      AttnParams params;
      params.heads = heads;
      params.scale = 1.0f / std::sqrt(static_cast<float>(d));
      AttnScratch scratch;
      const size_t n_out = batch * rows * heads * d, n_lse = batch * rows * heads;
      std::vector<float> out(n_out), lse(n_lse);
      attention(sequences, params, {q.data(), batch * rows, heads * d}, pool, scratch,
                {out.data(), batch * rows, heads * d}, {lse.data(), batch * rows, heads});
      expect_near(out, f.f32("out"), 1e-5, "out");
      expect_near(lse, f.f32("lse"), 1e-5, "lse");

      std::vector<float> split_out(splits * n_out), split_lse(splits * n_lse);
      for (size_t s = 0; s < splits; ++s) {
        auto part = sequences;
        for (size_t b = 0; b < batch; ++b) {
          const size_t used = (static_cast<size_t>(lengths[b]) + page - 1) / page,
                       per_split = (used + splits - 1) / splits;
          part[b].slot_begin = s * per_split * page;
          part[b].slot_end = (s + 1) * per_split * page;
        }
        attention(part, params, {q.data(), batch * rows, heads * d}, pool, scratch,
                  {&split_out[s * n_out], batch * rows, heads * d}, {&split_lse[s * n_lse], batch * rows, heads});
      }
      expect_near(split_out, f.f32("split.out"), 1e-5, "split.out");
      expect_near(split_lse, f.f32("split.lse"), 1e-5, "split.lse");
      combine_attention(splits, split_out, split_lse, heads, {out.data(), batch * rows, heads * d},
                        {lse.data(), batch * rows, heads});
      expect_near(out, f.f32("out"), 1e-5, "combined out");
      expect_near(lse, f.f32("lse"), 1e-5, "combined lse");
    }
  });
}

// [heads, rows, d] to [rows, heads * d].
std::vector<float> heads_inside(const std::vector<float>& x, size_t heads, size_t rows, size_t d) {
  std::vector<float> y(x.size());
  for (size_t h = 0; h < heads; ++h)
    for (size_t r = 0; r < rows; ++r)
      for (size_t i = 0; i < d; ++i) y[(r * heads + h) * d + i] = x[(h * rows + r) * d + i];
  return y;
}

TEST(FlashAttention4, TreeMask) {
  for_each_file("tree_mask", [](const VectorFile& f, ThreadPool& pool) {
    const auto k = f.f32("k"), v = f.f32("v");
    const auto mask = f.values<uint8_t>("tree_mask");
    const size_t heads = f.dim("q", 0), n = f.dim("q", 1), d = f.dim("q", 2), keys = f.dim("k", 1);
    const auto q = heads_inside(f.f32("q"), heads, n, d);
    ASSERT_LE(n, 64u);
    Pages pages(DType::kF32, 16, heads, d, keys);
    for (size_t h = 0; h < heads; ++h)
      for (size_t j = 0; j < keys; ++j) pages.store(j, h, &k[(h * keys + j) * d], &v[(h * keys + j) * d]);
    std::vector<uint64_t> bits(n, 0);
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) bits[i] |= static_cast<uint64_t>(mask[i * n + j]) << j;
    AttnSequence s;
    s.kv = pages.view();
    s.n_rows = n;
    s.mask_bits = bits;
    s.mask_begin = f.metadata("context");
    ASSERT_EQ(s.mask_begin + n, keys);
    AttnParams params;
    params.heads = heads;
    params.scale = 1.0f / std::sqrt(static_cast<float>(d));
    AttnScratch scratch;
    std::vector<float> out(n * heads * d), lse(n * heads);
    attention({&s, 1}, params, {q.data(), n, heads * d}, pool, scratch, {out.data(), n, heads * d},
              {lse.data(), n, heads});
    expect_near(out, heads_inside(f.f32("out"), heads, n, d), 1e-5, "out");
    expect_near(lse, heads_inside(f.f32("lse"), heads, n, 1), 1e-5, "lse");
  });
}

TEST(FlashAttention4, Int8Cache) {
  for_each_file("kv_int8", [](const VectorFile& f, ThreadPool& pool) {
    const auto k = f.values<int8_t>("k_int8"), v = f.values<int8_t>("v_int8");
    const auto k_scale = f.f32("k_scale"), v_scale = f.f32("v_scale");
    const size_t heads = f.dim("q", 0), n = f.dim("q", 1), d = f.dim("q", 2), keys = f.dim("k_int8", 1);
    const auto q = heads_inside(f.f32("q"), heads, n, d);
    Pages pages(DType::kI8, 32, heads, d, keys);
    for (size_t h = 0; h < heads; ++h)
      for (size_t j = 0; j < keys; ++j) {
        const size_t at = h * keys + j;
        store_kv_row_i8(pages.layout(), pages.head(j, h), j % 32, &k[at * d], k_scale[at], &v[at * d], v_scale[at]);
        // Our quantiser finds the same codes and scales in the rows these stand for.
        std::vector<float> key(d), value(d), key_again(d), value_again(d);
        load_kv_row(pages.layout(), pages.head(j, h), j % 32, key.data(), value.data());
        Pages one(DType::kI8, 16, 1, d, 1);
        one.store(0, 0, key.data(), value.data());
        load_kv_row(one.layout(), one.head(0, 0), 0, key_again.data(), value_again.data());
        expect_near(key_again, key, 1e-6, "requantised k");
        expect_near(value_again, value, 1e-6, "requantised v");
      }
    AttnSequence s;
    s.kv = pages.view();
    s.n_rows = n;
    AttnParams params;
    params.heads = heads;
    params.causal = false;
    params.scale = 1.0f / std::sqrt(static_cast<float>(d));
    AttnScratch scratch;
    std::vector<float> out(n * heads * d), lse(n * heads);
    attention({&s, 1}, params, {q.data(), n, heads * d}, pool, scratch, {out.data(), n, heads * d},
              {lse.data(), n, heads});
    expect_near(out, heads_inside(f.f32("out"), heads, n, d), 1e-5, "out");
    expect_near(lse, heads_inside(f.f32("lse"), heads, n, 1), 1e-5, "lse");
  });
}

}  // namespace
}  // namespace fettle::kernels
