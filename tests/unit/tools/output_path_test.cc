#include "tools/output_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/str.h"
#include "tests/support/status_matchers.h"

namespace thermocline::tools {
namespace {

using ::testing::HasSubstr;
using thermocline::testing::IsOk;
namespace fs = std::filesystem;

// A folder that exists as long as a test.
class OutputsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (fs::temp_directory_path() / "outputs_XXXXXX").string();
    ASSERT_NE(mkdtemp(path.data()), nullptr);
    folder_ = path;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return Str(folder_, "/", name); }
  void Write(const std::string& name) const { std::ofstream(Path(name)) << "x"; }

  std::string folder_;
};

TEST_F(OutputsTest, NewAndOldFilesAreFineAndLeftAsTheyAre) {
  Write("old");
  EXPECT_THAT(CheckOutputs({{"-o", Path("old")}, {"--html", Path("new")}}, {{"-m", Path("in")}}),
              IsOk());
  EXPECT_EQ(fs::file_size(Path("old")), 1u);
  EXPECT_EQ(std::distance(fs::directory_iterator(folder_), {}), 1);
}

TEST_F(OutputsTest, WhatCannotBeMadeIsNamed) {
  const auto refusal = [&](const std::string& path) {
    return CheckOutputs({{"--html", path}}, {}).message();
  };
  EXPECT_THAT(refusal(Path("no/such/folder")),
              HasSubstr(Str("--html: cannot be written: ", Path("no/such/folder"), ": No such")));
  Write("file");
  EXPECT_THAT(refusal(Path("file/below")), HasSubstr("Not a directory"));
  EXPECT_THAT(refusal(folder_), HasSubstr("not a regular file"));
  EXPECT_THAT(refusal(Path("new/")), HasSubstr("a folder, not a file"));
  fs::create_symlink("file", Path("link"));
  EXPECT_THAT(refusal(Path("link")), HasSubstr("not a regular file"));
  // Nobody, root included, makes files there.
  EXPECT_THAT(refusal("/proc/self/x"), HasSubstr("cannot be written: /proc/self/x"));
}

TEST_F(OutputsTest, InputsAndOtherOutputsAreNotWrittenOver) {
  Write("in");
  fs::create_hard_link(Path("in"), Path("same"));
  const auto refusal = CheckOutputs({{"-o", Path("same")}}, {{"--model", Path("in")}});
  EXPECT_EQ(refusal.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(refusal.message(), HasSubstr("-o is the input of --model: "));
  EXPECT_THAT(CheckOutputs({{"-o", Path("a")}, {"--html", Path("./a")}}, {}).message(),
              HasSubstr("--html and -o are the same file"));
}

}  // namespace
}  // namespace thermocline::tools
