#include "model/counts_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/support/test_paths.h"

namespace thermocline::model {
namespace {

std::string DataFile(const std::string& name) {
  std::ifstream in(testing::TestDataPath("activation_counts/") + name, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

Result<std::vector<uint64_t>> CountsOf(const std::string& bytes) {
  return ReadCounts(*ReadFromMemory(std::as_bytes(std::span(bytes)), "f"));
}

std::string RefusalOf(const std::string& bytes) {
  const auto counts = CountsOf(bytes);
  return counts.ok() ? "accepted" : counts.status().message();
}

std::vector<uint64_t> Expected(uint64_t layer) {
  return {layer, layer + 3, layer + 6, layer + 9, layer + 12, layer + 15};
}

TEST(Counts, OfEveryTypeThatIsWritten) {
  const char* const files[] = {"activation_0.pt", "activation_1.pt", "activation_2.pt",
                               "activation_3.npy"};
  for (uint64_t layer = 0; layer < 4; ++layer) {
    const auto counts = CountsOf(DataFile(files[layer]));
    ASSERT_TRUE(counts.ok()) << files[layer] << ": " << counts.status();
    EXPECT_EQ(*counts, Expected(layer)) << files[layer];
  }
}

TEST(Counts, OtherThingsThanOneVectorAreRefused) {
  EXPECT_NE(RefusalOf(DataFile("matrix.pt")).find("counts need one dimension: dims=2"),
            std::string::npos);
  EXPECT_NE(RefusalOf(DataFile("two_tensors.pt")).find("opcode that a tensor does not need"),
            std::string::npos);
  EXPECT_NE(RefusalOf(DataFile("parameter.pt")).find("torch._utils _rebuild_parameter"),
            std::string::npos);
  EXPECT_NE(RefusalOf(DataFile("half.pt")).find("torch HalfStorage"), std::string::npos);
  EXPECT_EQ(RefusalOf("counts"), "f: not a zip archive: bytes=6");
  EXPECT_EQ(RefusalOf(""), "f: not a zip archive: bytes=0");
}

TEST(Counts, EveryTruncationIsAnError) {
  for (const char* const name : {"activation_0.pt", "activation_2.pt", "activation_3.npy"}) {
    const std::string whole = DataFile(name);
    for (size_t n = 0; n < whole.size(); ++n) {
      ASSERT_FALSE(CountsOf(whole.substr(0, n)).ok()) << name << " cut to " << n;
    }
  }
}

// Any single byte may lie; whatever is read is still within the limits.
TEST(Counts, NoFlippedByteLeadsOutside) {
  for (const char* const name : {"activation_0.pt", "activation_2.pt", "activation_3.npy"}) {
    const std::string whole = DataFile(name);
    for (size_t at = 0; at < whole.size(); ++at) {
      for (const char value : {'\x00', '\xff', '\x7f', '\x80'}) {
        std::string changed = whole;
        changed[at] = value;
        const auto counts = CountsOf(changed);
        if (!counts.ok()) continue;
        ASSERT_LE(counts->size(), 12u) << name << " at " << at;
      }
    }
  }
}

// The numbers of activation_1.pt are floats; one of them made into `value`.
std::string WithCount(float value) {
  std::string bytes = DataFile("activation_1.pt");
  const float fourth = 10;
  const std::string wanted(reinterpret_cast<const char*>(&fourth), sizeof fourth);
  const size_t at = bytes.find(wanted);
  EXPECT_NE(at, std::string::npos);
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

TEST(Counts, MustBeCounts) {
  EXPECT_EQ(RefusalOf(WithCount(10)), "accepted");
  EXPECT_EQ(RefusalOf(WithCount(-1)), "f: not a count: index=3 value=-1");
  EXPECT_EQ(RefusalOf(WithCount(INFINITY)), "f: not a count: index=3 value=inf");
  EXPECT_NE(RefusalOf(WithCount(NAN)).find("not a count: index=3"), std::string::npos);
}

std::string Npy(const std::string& header, const std::string& data) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size());
  bytes += '\0';
  return bytes + header + data;
}

TEST(Counts, NpyHeadersThatLieAreRefused) {
  const std::string eight(8, '\0');
  EXPECT_EQ(RefusalOf(Npy("{'descr': '<i4', 'shape': (2,), }", eight)), "accepted");
  EXPECT_EQ(RefusalOf(Npy("{'descr': '<i4', 'shape': (3,), }", eight)),
            "f: counts outside their data: offset=0 counts=3 stride=1 stored=2");
  EXPECT_EQ(RefusalOf(Npy("{'descr': '<i4', 'shape': (-3,), }", eight)),
            "f: impossible number of counts: counts=-3 max=1048576");
  EXPECT_NE(RefusalOf(Npy("{'descr': '<i4', 'shape': (1, 2), }", eight)).find("one dimension"),
            std::string::npos);
  EXPECT_NE(RefusalOf(Npy("{'descr': '>i4', 'shape': (2,), }", eight)).find("npy file of a type"),
            std::string::npos);
  EXPECT_NE(RefusalOf(Npy("{'descr': '<i4'}", eight)).find("one dimension"), std::string::npos);
}

}  // namespace
}  // namespace thermocline::model
