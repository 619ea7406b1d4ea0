#include "compress/pipeline/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <limits>

#include "base/file.h"
#include "base/random.h"
#include "compress/manifest.h"
#include "compress/method.h"
#include "compress/methods/asinq.h"
#include "compress/methods/sinq.h"
#include "compress/solve/hessian.h"
#include "compress/solve/objective.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "compress/weight_tools.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "kernels/prepared.h"
#include "models/model.h"
#include "models/weight_source.h"

namespace fettle::compress {
namespace {

using ::testing::HasSubstr;

class PipelineTest : public ::testing::TestWithParam<const char*> {
 protected:
  PipelineTest() : pool_(2), model_(dir_ / "model") {}
  void make(const std::string& arch) { synth(model_, {.arch = arch, .dtype = DType::kF32}, Overwrite::kYes, pool_); }
  static PipelineOptions options(const std::string& method, Format format = Format::kInt4, int64_t group = 32) {
    PipelineOptions o;
    o.compress.method = method;
    o.compress.format = format;
    o.compress.numbers.group_size = group;
    o.calibration = {"self", 4, 48, 1};
    o.expert_tokens = 16;
    return o;
  }
  PipelineReport run(const std::string& out, const PipelineOptions& o) {
    return run_pipeline(model_, dir_ / out, o, pool_);
  }
  std::string shard(const std::string& out, const std::string& name) {
    return read_file(path_join(dir_ / out, name), size_t{1} << 30);
  }

  testing::TempDir dir_;
  ThreadPool pool_;
  std::string model_;
};

// Every family and method: all planned layers are rounded, the result loads, and the codes never do worse than rounding
// to nearest on the inputs they were chosen for.
TEST_P(PipelineTest, EveryFamilyComesOutWholeAndNotWorseThanRounding) {
  make(GetParam());
  for (const char* method : {"gptq", "qronos", "gpfq", "asinq"}) {
    const PipelineReport r = run(method, options(method));
    ASSERT_EQ(r.layers.size(), r.plan.layers.size());
    for (const RoundedLayer& l : r.layers)
      EXPECT_LE(l.objective, l.rtn_objective * (1 + 1e-5) + 1e-12) << method << " " << l.module;
    EXPECT_TRUE(verify_manifest(dir_ / method).empty());
    models::Model::load(dir_ / method, {.strict = true}, pool_);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, PipelineTest, ::testing::Values("llama", "qwen3", "gemma2", "phi3", "mixtral"),
                         [](const auto& i) { return std::string(i.param); });

// Starting over at the front of the block for every stage, one thread instead of two, activations on disk: same bytes.
TEST_F(PipelineTest, BytesDependOnNeitherOrderNorThreadsNorSpilling) {
  make("mixtral");
  PipelineOptions o = options("gptq");
  run("segments", o);
  o.mode = BlockPass::Mode::kNaive;
  run("naive", o);
  o.mode = BlockPass::Mode::kSegments;
  ThreadPool one(1);
  run_pipeline(model_, dir_ / "one", o, one);
  const PipelineEstimate all = estimate_pipeline(model_, plan_compression(model_, o.compress), o);
  o.mem_limit = all.memory() - 1;
  EXPECT_TRUE(run("spilled", o).estimate.spilled);
  for (const char* other : {"naive", "one", "spilled"})
    for (const char* name : {"model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"})
      EXPECT_EQ(shard(other, name), shard("segments", name)) << other << " " << name;
}

// kill -9 while a layer is at work, wherever that is: --resume ends with the bytes of an uninterrupted run.
TEST_F(PipelineTest, KilledRunsGoOnToTheSameBytes) {
  make("llama");
  for (const char* method : {"gptq", "qronos"}) {
    PipelineOptions o = options(method);
    const PipelineReport whole = run(std::string(method) + "-whole", o);
    const std::string out = dir_ / (std::string(method) + "-killed");
    for (const size_t layer : {size_t{1}, whole.layers.size() / 2 + 2, whole.layers.size()}) {
      const pid_t child = ::fork();
      ASSERT_GE(child, 0);
      if (child == 0) {
        ThreadPool pool(2);
        PipelineOptions mine = o;
        mine.resume = true;
        run_pipeline(model_, out, mine, pool, nullptr, [&](size_t done, size_t, const RoundedLayer&) {
          if (done == layer) ::raise(SIGKILL);
        });
        ::_exit(0);
      }
      int status = 0;
      ASSERT_EQ(::waitpid(child, &status, 0), child);
      ASSERT_TRUE(WIFSIGNALED(status)) << method << " was not killed at layer " << layer;
      EXPECT_FALSE(file_exists(out));
    }
    o.resume = true;
    const PipelineReport r = run_pipeline(model_, out, o, pool_);
    EXPECT_EQ(r.resumed_blocks, 1) << "the last kill struck the last of two blocks";
    EXPECT_EQ(r.layers.size(), whole.layers.size());
    for (const std::string& name : list_directory(out))
      EXPECT_EQ(shard(std::string(method) + "-killed", name), shard(std::string(method) + "-whole", name)) << name;
    EXPECT_EQ(list_directory(out), list_directory(dir_ / (std::string(method) + "-whole")));
  }
}

// Neither a folder of somebody else nor one of other weights is continued, and both stay as they are.
TEST_F(PipelineTest, ResumesOnlyItsOwnWork) {
  make("llama");
  PipelineOptions o = options("gptq");
  o.resume = true;
  std::filesystem::create_directory(dir_ / "out.partial");
  write_file_atomic(dir_ / "out.partial/thesis.txt", "text");
  const auto message = [&] {
    try {
      run("out", o);
      ADD_FAILURE() << "no error";
      return std::string();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kInput);
      return std::string(e.what());
    }
  };
  EXPECT_THAT(message(), ::testing::AllOf(HasSubstr("out.partial"), HasSubstr("state.json")));
  EXPECT_EQ(list_directory(dir_ / "out.partial"), std::vector<std::string>{"thesis.txt"});
  std::filesystem::remove_all(dir_ / "out.partial");

  CancelToken cancel;
  EXPECT_THROW(run_pipeline(model_, dir_ / "out", o, pool_, &cancel,
                            [&](size_t done, size_t total, const RoundedLayer&) {
                              if (2 * done > total) cancel.cancel(SIGINT);
                            }),
               Error);
  ASSERT_TRUE(file_exists(dir_ / "out.partial/state.json"));
  synth(model_, {.arch = "llama", .dtype = DType::kF32, .seed = 1}, Overwrite::kYes, pool_);
  EXPECT_THAT(message(), HasSubstr("another model"));
  EXPECT_TRUE(file_exists(dir_ / "out.partial/state.json"));
}

// An expert that saw too few tokens says so.
TEST_F(PipelineTest, PoorExpertsBorrow) {
  make("mixtral");
  PipelineOptions o = options("gptq");
  o.expert_tokens = 1 << 20;
  size_t borrowed = 0;
  for (const RoundedLayer& l : run("out", o).layers)
    borrowed += l.note.find("moments of all tokens") != std::string::npos;
  EXPECT_EQ(borrowed, 2u * 4u * 3u);
}

// What a layer's row in the report says is what the file decodes to, in formats with their own packing too.
TEST_F(PipelineTest, LowBitsAndColumnFactorsReachTheFile) {
  make("llama");
  for (const char* method : {"gptq", "asinq", "asinq-upstream"})
    for (const Format format : {Format::kInt3, Format::kInt2, Format::kNF4}) {
      PipelineOptions o = options(method, format, 64);
      o.compress.overwrite = Overwrite::kYes;
      o.compress.numbers.symmetric = format == Format::kNF4;
      const PipelineReport r = run("out", o);
      EXPECT_EQ(io::TensorSource::open_directory(dir_ / "out").total_bytes(), r.plan.bytes_after);
      const auto before = models::open_hf_weights(io::resolve_model(model_), pool_),
                 after = models::open_hf_weights(io::resolve_model(dir_ / "out"), pool_);
      for (size_t i = 0; i < r.layers.size(); ++i) {
        const LayerPlan& l = r.plan.layers[i];
        const auto stored = [&](const RoundedLayer& row) { return row.module == l.module; };
        const auto row = std::find_if(r.layers.begin(), r.layers.end(), stored);
        ASSERT_NE(row, r.layers.end());
        const std::vector<float> w = decode_parallel(before->matrix(l.module, l.rows, l.cols), pool_);
        const PackedWeight packed = after->matrix(l.module, l.rows, l.cols);
        EXPECT_EQ(packed.format, format);
        EXPECT_EQ(packed.input.col_scales.is_empty(), std::string(method) == "gptq");
        const MatView<const float> view(w.data(), static_cast<size_t>(l.rows), static_cast<size_t>(l.cols));
        EXPECT_NEAR(relative_error(view, packed, pool_), row->error, 1e-9) << method << " " << l.module;
      }
    }
}

// A-SINQ is never worse than SINQ or rounding to nearest on the inputs it was chosen for.
TEST_F(PipelineTest, AsinqNeverLosesToItsAlternatives) {
  Random random(3);
  const size_t n = 600, k = 192, tokens = 400;  // more rows than the search looks at
  std::vector<float> w(n * k), x(tokens * k), size(k), mean(k, 0.0f);
  for (float& s : size) s = std::exp(random.normal());
  for (size_t i = 0; i < w.size(); ++i) w[i] = random.normal() * 0.05f / std::sqrt(size[i % k]);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = random.normal() * size[i % k];
    mean[i % k] += std::fabs(x[i]) / static_cast<float>(tokens);
  }
  HessianAccumulator h(static_cast<int64_t>(k));
  h.add({x.data(), tokens, k}, pool_);
  const MatView<const float> view(w.data(), n, k), moments = h.mean(&pool_);
  const auto loss = [&](const PackedWeight& p) {
    std::vector<float> d = decode(p);
    for (size_t i = 0; i < d.size(); ++i) d[i] -= w[i];
    return quadratic_form({d.data(), n, k}, moments, pool_);
  };
  FormatOptions numbers;
  numbers.group_size = 64;
  numbers.symmetric = false;
  const std::string name = "layer";
  const LayerJob job{name, view, Format::kInt3, numbers, pool_};
  const AsinqResult r = quantise_asinq(job, {moments, mean}, sinq::AwqRule::kEffective);
  const double sinq = loss(quantise_sinq(job)), rtn = loss(encode(format_info(Format::kInt3), view, numbers, pool_));
  EXPECT_NEAR(r.loss, loss(r.packed), 1e-6 * r.loss);
  EXPECT_NEAR(r.rtn_loss, rtn, 1e-6 * rtn);
  EXPECT_LT(r.loss, 0.95 * sinq);  // large inputs meet small weights: SINQ alone rounds those coarsely
  EXPECT_LT(r.loss, rtn);
  EXPECT_GT(r.alpha, 0);
  // Inputs without any size: nothing to gain, and nothing lost.
  const std::vector<float> even(k, 1.0f);
  const AsinqResult plain = quantise_asinq(job, {moments, even}, sinq::AwqRule::kUpstream);
  EXPECT_GE(plain.loss, r.loss);
}

// Layers of one job may differ in method: column factors are stored where SINQ was asked for, and nowhere else.
TEST_F(PipelineTest, MethodsMix) {
  make("llama");
  PipelineOptions o = options("gptq");
  o.compress.rules.push_back({.targets = {"*.down_proj"}, .method = "sinq"});
  const PipelineReport r = run("out", o);
  EXPECT_EQ(io::TensorSource::open_directory(dir_ / "out").total_bytes(), r.plan.bytes_after);
  const auto after = models::open_hf_weights(io::resolve_model(dir_ / "out"), pool_);
  for (const LayerPlan& l : r.plan.layers)
    EXPECT_EQ(after->matrix(l.module, l.rows, l.cols).input.present(), l.module.ends_with("down_proj")) << l.module;
}

TEST_F(PipelineTest, OptionsOfSolversAreRefusedWithoutOne) {
  make("llama");
  PipelineOptions o = options("asinq");
  o.compress.search = GridSearch::kImatrix;
  EXPECT_THROW(run("out", o), Error);
  o.compress.search = GridSearch::kMse;
  o.damping = 0.01;
  EXPECT_THROW(run("out", o), Error);
}

// MR-GPTQ: inputs are rotated at run time, scales shared within fused groups, and plain rounding is beaten in every
// layer.
TEST_F(PipelineTest, MrGptqRotatesInputs) {
  make("llama");
  for (const Format format : {Format::kNvfp4, Format::kMxfp4, Format::kInt4}) {
    PipelineOptions o = options("rtn", format, format == Format::kInt4 ? 32 : 0);
    use_method(&o, "mr-gptq");
    EXPECT_EQ(o.compress.search, GridSearch::kHessian);
    const std::string out = fmt::format("mr{}", static_cast<int>(format));
    const PipelineReport r = run(out, o);
    for (const RoundedLayer& l : r.layers) EXPECT_LT(l.objective, l.rtn_objective) << l.module;
    for (const LayerPlan& l : r.plan.layers)
      EXPECT_EQ(l.stored.hadamard, format == Format::kNvfp4 ? 16 : 32) << l.module;
    const auto model = models::BlockModel::open(dir_ / out, {}, pool_);
    models::Block block = model->block(0);
    for (const models::BlockLinear& l : block.linears())
      EXPECT_EQ(l.linear->weight().data().input.hadamard, format == Format::kNvfp4 ? 16 : 32) << l.module;
  }
}

// The rotation goes with any method, also without calibration; a block that does not fit is an error.
TEST_F(PipelineTest, RotatedInputsWithEveryMethod) {
  make("llama");
  for (const char* method : {"rtn", "qronos", "gpfq"}) {
    PipelineOptions o = options(method);
    o.compress.hadamard = 32;
    if (std::string(method) == "rtn") {
      const CompressReport r = compress(model_, dir_ / method, o.compress, pool_);
      EXPECT_LT(r.mean_error(), 0.02);
    } else {
      run(method, o);
    }
    models::Model::load(dir_ / method, {.strict = true}, pool_);
  }
  PipelineOptions o = options("gptq");
  o.compress.hadamard = 48;
  EXPECT_THROW(run("x", o), Error);
  o.compress.hadamard = 4096;
  try {
    run("x", o);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::AllOf(HasSubstr("down_proj"), HasSubstr("4096")));
  }
}

// Damping without bound turns GPTQ into rounding to nearest on the same grid.
TEST_F(PipelineTest, HugeDampingIsRounding) {
  make("llama");
  PipelineOptions o = options("gptq");
  o.damping = 1e6;
  for (const RoundedLayer& l : run("out", o).layers)
    EXPECT_NEAR(l.objective, l.rtn_objective, 1e-3 * l.rtn_objective) << l.module;
}

TEST_F(PipelineTest, ActivationsThatOverflowNameTheToken) {
  make("llama");
  // A norm weight so large that the products of block 1 leave the range of F32.
  const std::string path = path_join(model_, "model.safetensors");
  std::vector<std::pair<std::string, Tensor>> tensors;
  {
    const io::SafetensorsFile file = io::SafetensorsFile::open(path);
    for (const io::TensorEntry& e : file.entries()) {
      Tensor t = file.tensor(e.name).copy();
      if (e.name == "model.layers.1.input_layernorm.weight")
        for (int64_t i = 0; i < t.numel(); ++i) t.mutable_data<float>()[i] = std::numeric_limits<float>::max();
      tensors.emplace_back(e.name, std::move(t));
    }
  }
  io::write_safetensors(path, tensors);
  PipelineOptions o = options("gptq");
  write_file_atomic(dir_ / "text.txt", std::string(1000, 'x'));
  o.calibration.source = dir_ / "text.txt";
  try {
    run("out", o);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kNumeric);
    EXPECT_THAT(e.what(), ::testing::AllOf(HasSubstr("block 1, sample 0, token"), HasSubstr("attention")));
  }
  EXPECT_FALSE(file_exists(dir_ / "out"));
}

}  // namespace
}  // namespace fettle::compress
