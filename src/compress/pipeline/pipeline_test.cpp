#include "compress/pipeline/pipeline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <limits>

#include "base/file.h"
#include "compress/manifest.h"
#include "compress/synth.h"
#include "compress/test_dir.h"
#include "io/safetensors.h"
#include "models/model.h"

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
  for (const char* method : {"gptq", "qronos", "gpfq"}) {
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
