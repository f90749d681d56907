#include "base/text_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "base/str.h"

namespace thermocline {
namespace {

using ::testing::HasSubstr;

class TextFileTest : public ::testing::Test {
 protected:
  TextFileTest()
      : path_(Str(::testing::TempDir(), "text-", getpid(), "-",
                  ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~TextFileTest() override { std::filesystem::remove(path_); }

  void Write(const std::string& text) { std::ofstream(path_, std::ios::binary) << text; }

  std::string path_;
};

void ExpectRefused(const std::string& path, StatusCode code, const std::string& why) {
  const auto text = ReadTextFile(path, 100);
  ASSERT_FALSE(text.ok()) << path;
  EXPECT_EQ(text.status().code(), code) << text.status();
  EXPECT_THAT(text.status().message(), HasSubstr(Str("cannot read ", path, ": ", why)));
}

TEST_F(TextFileTest, ReadsUpToItsLimit) {
  for (const size_t n : {size_t{0}, size_t{1}, size_t{65536}, size_t{200001}}) {
    const std::string text(n, 'x');
    Write(text);
    const auto whole = ReadTextFile(path_, n);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_EQ(*whole, text);
    if (n == 0) continue;
    const auto refused = ReadTextFile(path_, n - 1);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(refused.status().message(),
                HasSubstr(Str("file is too large: ", path_, " max_bytes=", n - 1)));
  }
}

TEST_F(TextFileTest, RefusesWhatIsNoText) {
  ExpectRefused(path_, StatusCode::kNotFound, "No such file");
  ExpectRefused(::testing::TempDir(), StatusCode::kInvalidArgument, "it is a folder, not a file");
  ExpectRefused("/dev/zero", StatusCode::kInvalidArgument, "it is neither a file nor a pipe");
  ExpectRefused("/dev/null", StatusCode::kInvalidArgument, "it is neither a file nor a pipe");
}

TEST_F(TextFileTest, ReadsAPipeToItsEnd) {
  std::array<int, 2> ends = {};
  ASSERT_EQ(pipe(ends.data()), 0);
  ASSERT_EQ(write(ends[1], "a plan", 6), 6);
  close(ends[1]);
  const auto text = ReadTextFile(Str("/dev/fd/", ends[0]), 6);
  close(ends[0]);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(*text, "a plan");
}

}  // namespace
}  // namespace thermocline
