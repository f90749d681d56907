#include "model/gguf_writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tests/support/gguf_image.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"

namespace thermocline::model {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using thermocline::testing::IsOk;
namespace fs = std::filesystem;

// A folder that exists as long as a test.
class GgufWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string pattern = (fs::temp_directory_path() / "gguf_writer_XXXXXX").string();
    std::vector<char> path(pattern.begin(), pattern.end());
    path.push_back('\0');
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    folder_ = path.data();
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name = "out.gguf") const { return folder_ + "/" + name; }
  size_t NumFiles() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), {}));
  }

  std::string folder_;
};

std::vector<std::byte> RandomBytes(uint64_t n, uint64_t seed) {
  std::vector<std::byte> bytes(n);
  for (uint64_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(UniformAt(seed, i) * 256);
  return bytes;
}

std::vector<GgufTensorSpec> SomeTensors() {
  return {{"a.weight", DType::kF32, {3}},
          {"b.weight", DType::kQ4_0, {5, 64}},
          {"c.weight", DType::kI32, {2, 3, 7}},
          {"d.weight", DType::kF16, {1, 1}}};
}

// Puts every tensor in two pieces, last tensor first.
Status PutAll(GgufWriter* writer) {
  for (size_t i = writer->tensors().size(); i-- > 0;) {
    const auto bytes = RandomBytes(writer->tensors()[i].size_bytes(), i);
    const size_t cut = bytes.size() / 3;
    TC_RETURN_IF_ERROR(writer->Put(i, cut, std::span(bytes).subspan(cut)));
    TC_RETURN_IF_ERROR(writer->Put(i, 0, std::span(bytes).first(cut)));
  }
  return OkStatus();
}

TEST_F(GgufWriterTest, WhatIsWrittenIsReadBack) {
  for (const GgufDialect dialect : {GgufDialect::kGguf, GgufDialect::kPowerInfer}) {
    GgufMetadata metadata;
    metadata.SetString("general.architecture", "llama");
    metadata.SetU32("some.u32", 4000000000u);
    metadata.SetI32("some.i32", -7);
    metadata.SetU64("some.u64", uint64_t{1} << 60);
    metadata.SetF32("some.f32", 0.25f);
    metadata.SetBool("some.bool", true);
    metadata.SetStrings("some.strings", std::vector<std::string>{"x", "", "long text"});
    metadata.SetF32s("some.floats", std::vector<float>{1.5f, -2});
    metadata.SetI32s("some.ints", std::vector<int32_t>{-1, 5});
    metadata.SetU32s("some.none", {});
    metadata.SetI32("some.i32", -8);
    auto writer = GgufWriter::Create(Path(), dialect, metadata, SomeTensors());
    ASSERT_THAT(writer.status(), IsOk());
    ASSERT_THAT(PutAll(writer->get()), IsOk());
    EXPECT_FALSE(fs::exists(Path()) && dialect == GgufDialect::kGguf);
    ASSERT_THAT((*writer)->Finish(), IsOk());
    EXPECT_EQ(fs::file_size(Path()), (*writer)->file_bytes());

    const auto reader = OpenMappedFile(Path());
    ASSERT_THAT(reader.status(), IsOk());
    const auto file = GgufFile::Parse(**reader);
    ASSERT_THAT(file.status(), IsOk());
    EXPECT_EQ(file->dialect(), dialect);
    EXPECT_EQ(file->version(), 3u);
    EXPECT_EQ(*file->GetString("general.architecture"), "llama");
    EXPECT_EQ(*file->GetInt("some.u32"), 4000000000);
    EXPECT_EQ(*file->GetInt("some.i32"), -8);
    EXPECT_EQ(*file->GetInt("some.u64"), int64_t{1} << 60);
    EXPECT_EQ(*file->GetFloat("some.f32"), 0.25);
    EXPECT_TRUE(*file->GetBool("some.bool"));
    EXPECT_THAT(*file->GetStrings("some.strings"), ElementsAre("x", "", "long text"));
    EXPECT_THAT(*file->GetFloats("some.floats"), ElementsAre(1.5, -2));
    EXPECT_THAT(*file->GetInts("some.ints"), ElementsAre(-1, 5));
    EXPECT_TRUE(file->GetInts("some.none")->empty());
    ASSERT_EQ(file->tensors().size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      const TensorInfo& tensor = file->tensors()[i];
      EXPECT_EQ(tensor.name, SomeTensors()[i].name);
      EXPECT_EQ(tensor.dtype, SomeTensors()[i].dtype);
      EXPECT_EQ(tensor.shape, SomeTensors()[i].shape);
      std::vector<std::byte> bytes(tensor.size_bytes);
      ASSERT_THAT((*reader)->Read(tensor.offset_bytes, bytes), IsOk());
      EXPECT_EQ(bytes, RandomBytes(tensor.size_bytes, i)) << tensor.name;
    }
  }
  EXPECT_EQ(NumFiles(), 1u);
}

TEST_F(GgufWriterTest, MetadataIsCopiedByteForByte) {
  thermocline::testing::GgufImage image;
  image.AddU64("a.u64", 3).AddI32("b.i32", -3).AddString("c", "text").AddBool("d", true);
  image.AddRaw("e.u16", static_cast<uint32_t>(GgufValueType::kU16),
               thermocline::testing::Packed(uint16_t{9}));
  image.AddStrings("f", {"x", "yz"}).AddF32s("g", {1, 2}).AddZeros("t", DType::kF32, {4});
  const auto bytes = image.Bytes();
  const auto copy = GgufMetadata::CopyOf(*ReadFromMemory(bytes, "image"));
  ASSERT_THAT(copy.status(), IsOk());
  image.tensors.clear();
  const std::string header = image.HeaderBytes();
  EXPECT_EQ(copy->Encode(), header.substr(4 + 4 + 8 + 8));
  EXPECT_EQ(copy->size(), 7u);
  EXPECT_TRUE(copy->Has("e.u16"));
  EXPECT_FALSE(copy->Has("e"));
}

TEST_F(GgufWriterTest, KeysOfTheOldLayoutAreDropped) {
  GgufMetadata metadata;
  metadata.SetU32("general.alignment", 4096);
  metadata.SetU32("split.count", 1);
  metadata.SetString("kept", "x");
  auto writer = GgufWriter::Create(Path(), GgufDialect::kGguf, metadata, SomeTensors());
  ASSERT_THAT(writer.status(), IsOk());
  ASSERT_THAT(PutAll(writer->get()), IsOk());
  ASSERT_THAT((*writer)->Finish(), IsOk());
  const auto file = GgufFile::Parse(**OpenMappedFile(Path()));
  ASSERT_THAT(file.status(), IsOk());
  EXPECT_EQ(file->metadata().size(), 1u);
}

TEST_F(GgufWriterTest, AnUnfinishedFileLeavesNothing) {
  {
    auto writer = GgufWriter::Create(Path(), GgufDialect::kGguf, {}, SomeTensors());
    ASSERT_THAT(writer.status(), IsOk());
    const auto bytes = RandomBytes(12, 0);
    ASSERT_THAT((*writer)->Put(0, 0, bytes), IsOk());
    const Status status = (*writer)->Finish();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(), HasSubstr("b.weight written=0 size=180"));
    EXPECT_EQ(NumFiles(), 1u);
  }
  EXPECT_EQ(NumFiles(), 0u);
}

TEST_F(GgufWriterTest, TensorsThatDoNotFitTheFormatAreRefused) {
  const auto refusal = [&](std::vector<GgufTensorSpec> tensors,
                           GgufDialect dialect = GgufDialect::kGguf) {
    const auto writer = GgufWriter::Create(Path(), dialect, {}, std::move(tensors));
    EXPECT_EQ(writer.status().code(), StatusCode::kInvalidArgument);
    return writer.status().message();
  };
  EXPECT_THAT(refusal({{"a", DType::kF32, {1}}, {"a", DType::kF32, {1}}}), HasSubstr("twice: a"));
  EXPECT_THAT(refusal({{"", DType::kF32, {1}}}), HasSubstr("name"));
  EXPECT_THAT(refusal({{std::string(64, 'n'), DType::kF32, {1}}}), HasSubstr("bytes=64"));
  EXPECT_THAT(refusal({{"a", DType::kF32, {}}}), HasSubstr("shape"));
  EXPECT_THAT(refusal({{"a", DType::kF32, {4, 0}}}), HasSubstr("shape"));
  EXPECT_THAT(refusal({{"a", DType::kF32, {1, 1, 1, 1, 1}}}), HasSubstr("dims=5"));
  EXPECT_THAT(refusal({{"a", DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}}}),
              HasSubstr("shape"));
  EXPECT_THAT(refusal({{"a", DType::kQ4_K, {2, 128}}}), HasSubstr("row=128 block=256"));
  EXPECT_THAT(refusal({{"a", DType::kBF16, {2, 128}}}, GgufDialect::kPowerInfer),
              HasSubstr("BF16"));
  EXPECT_EQ(NumFiles(), 0u);
}

TEST_F(GgufWriterTest, BytesBeyondATensorAreRefused) {
  auto writer = GgufWriter::Create(Path(), GgufDialect::kGguf, {}, SomeTensors());
  ASSERT_THAT(writer.status(), IsOk());
  EXPECT_EQ((*writer)->Put(0, 8, RandomBytes(5, 0)).code(), StatusCode::kInvalidArgument);
  EXPECT_EQ((*writer)->Put(0, ~uint64_t{0}, RandomBytes(5, 0)).code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(*(*writer)->IndexOf("c.weight"), 2u);
  EXPECT_EQ((*writer)->IndexOf("e.weight").status().code(), StatusCode::kNotFound);
}

TEST_F(GgufWriterTest, WhatIsNotARegularFileIsLeftAlone) {
  fs::create_symlink("elsewhere.gguf", Path());
  const auto writer = GgufWriter::Create(Path(), GgufDialect::kGguf, {}, SomeTensors());
  EXPECT_EQ(writer.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(writer.status().message(), HasSubstr(Path()));
  EXPECT_TRUE(fs::is_symlink(Path()));
  EXPECT_EQ(NumFiles(), 1u);
}

TEST_F(GgufWriterTest, FilesGetThePermissionsOfOtherFiles) {
  const mode_t old = umask(0027);
  auto writer = GgufWriter::Create(Path(), GgufDialect::kGguf, {}, {});
  ASSERT_THAT(writer.status(), IsOk());
  EXPECT_THAT((*writer)->Finish(), IsOk());
  umask(old);
  EXPECT_EQ(fs::status(Path()).permissions(), fs::perms(0640));
}

TEST_F(GgufWriterTest, SeveralWritersOfOneTargetDoNotMeet) {
  auto first = GgufWriter::Create(Path(), GgufDialect::kGguf, {}, SomeTensors());
  auto second = GgufWriter::Create(Path(), GgufDialect::kGguf, {}, {});
  ASSERT_THAT(first.status(), IsOk());
  ASSERT_THAT(second.status(), IsOk());
  EXPECT_EQ(NumFiles(), 2u);
  EXPECT_THAT(PutAll(first->get()), IsOk());
  EXPECT_THAT((*first)->Finish(), IsOk());
  second->reset();
  EXPECT_EQ(NumFiles(), 1u);
  EXPECT_EQ(fs::file_size(Path()), (*first)->file_bytes());
}

TEST_F(GgufWriterTest, AMissingFolderIsNamed) {
  const auto writer =
      GgufWriter::Create(Path("no/such/out.gguf"), GgufDialect::kGguf, {}, SomeTensors());
  EXPECT_EQ(writer.status().code(), StatusCode::kNotFound);
  EXPECT_THAT(writer.status().message(), HasSubstr("no/such/out.gguf"));
}

// The limit of the process stands for a full disk: both are found out before the first weight.
TEST_F(GgufWriterTest, NoRoomIsResourceExhaustedAndLeavesNothing) {
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit tight{4096, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &tight), 0);
  const auto writer =
      GgufWriter::Create(Path(), GgufDialect::kGguf, {}, {{"a", DType::kF32, {1 << 20}}});
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &old), 0);
  EXPECT_EQ(writer.status().code(), StatusCode::kResourceExhausted) << writer.status();
  EXPECT_EQ(NumFiles(), 0u);
}

}  // namespace
}  // namespace thermocline::model
