#include "base/trace_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/str.h"

namespace thermocline {
namespace {

using nlohmann::json;
using std::chrono::microseconds;

TimePoint At(int64_t us) { return {microseconds(us)}; }

class TraceFileTest : public ::testing::Test {
 protected:
  TraceFileTest()
      : path_(Str(::testing::TempDir(), "trace-", getpid(), "-",
                  ::testing::UnitTest::GetInstance()->current_test_info()->name())) {}
  ~TraceFileTest() override { std::filesystem::remove(path_); }

  std::unique_ptr<TraceFile> Create(uint64_t limit_bytes = 1 << 20) {
    auto file = TraceFile::Create(path_, limit_bytes);
    EXPECT_TRUE(file.ok()) << file.status();
    return std::move(file).value();
  }
  json Read() const {
    std::stringstream text;
    text << std::ifstream(path_).rdbuf();
    return json::parse(text.str());
  }

  const std::string path_;
};

TEST_F(TraceFileTest, IsWholeFromTheBeginningAndAfterEachFlush) {
  const auto file = Create();
  EXPECT_TRUE(Read()["traceEvents"].empty());
  file->NameProcess(3, "worker 3 on \"node\"\n");
  for (int i = 1; i <= 3; ++i) {
    file->Add({.name = "norm", .process = 3, .thread = 1, .begin = At(i)});
    EXPECT_EQ(Read()["traceEvents"].size(), i == 1 ? 0u : static_cast<size_t>(i));
    ASSERT_TRUE(file->Flush().ok());
    EXPECT_EQ(Read()["traceEvents"].size(), static_cast<size_t>(1 + i));
  }
  EXPECT_EQ(Read()["traceEvents"][0]["args"]["name"], "worker 3 on \"node\"?");
}

TEST_F(TraceFileTest, SaysWhatItWasTold) {
  const auto file = Create();
  file->set_zero(At(1000));
  file->NameThread(2, 7, "device");
  file->Add({.name = "matmul ffn_up",
             .process = 2,
             .thread = 7,
             .begin = {Duration(1'500'250)},
             .duration = Duration(2'001),
             .layer = 0,
             .step = 9,
             .n_rows = 4});
  ASSERT_TRUE(file->Flush().ok());
  const json events = Read()["traceEvents"];
  EXPECT_EQ(events[0], json::parse(R"({"ph":"M","name":"thread_name","pid":2,"tid":7,
                                       "args":{"name":"device"}})"));
  EXPECT_EQ(events[1], json::parse(R"({"ph":"X","name":"matmul ffn_up","pid":2,"tid":7,"ts":500.25,
                                       "dur":2.001,"args":{"layer":0,"step":9,"rows":4}})"));
}

TEST_F(TraceFileTest, CountsWhatItLeavesOut) {
  constexpr uint64_t kLimit = 1000;
  const auto file = Create(kLimit);
  for (int i = 0; i < 50; ++i) {
    file->Add({.name = "norm", .begin = At(i)});
    if (i % 7 == 0) {
      ASSERT_TRUE(file->Flush().ok());
    }
  }
  file->set_n_lost(5);
  ASSERT_TRUE(file->Flush().ok());
  const json all = Read();
  EXPECT_EQ(all["traceEvents"].size(), file->n_events());
  EXPECT_EQ(file->n_events() + file->n_left_out(), 50u);
  EXPECT_GT(file->n_left_out(), 20u);
  EXPECT_EQ(all["otherData"]["events_left_out"], file->n_left_out() + 5);
  EXPECT_LT(std::filesystem::file_size(path_), kLimit + 100);
}

TEST_F(TraceFileTest, AFolderThatIsNotThereIsNamed) {
  const auto file = TraceFile::Create(path_ + "/no/trace.json", 1000);
  EXPECT_EQ(file.status().code(), StatusCode::kUnavailable);
  EXPECT_NE(file.status().message().find("/no/trace.json"), std::string::npos);
}

}  // namespace
}  // namespace thermocline
