#include "worker/probe/huge_pages.h"

#include <gtest/gtest.h>

#include <sstream>

#include "base/units.h"

namespace thermocline::worker {
namespace {

constexpr char kSmaps[] =
    "00400000-00500000 r-xp 00000000 08:01 12  /bin/program\n"
    "Size:               1024 kB\n"
    "AnonHugePages:         0 kB\n"
    "7f0000000000-7f0004000000 rw-p 00000000 00:00 0 \n"
    "Size:              65536 kB\n"
    "AnonHugePages:     63488 kB\n"
    "VmFlags: rd wr mr mw me ac hg\n"
    "7f0004000000-7f0004400000 rw-p 00000000 00:00 0\n"
    "AnonHugePages:      2048 kB\n";

uint64_t HugeBytes(uint64_t begin, uint64_t end) {
  std::istringstream smaps(kSmaps);
  return HugeBytesOf(smaps, begin, end);
}

TEST(HugePages, AreCountedInTheMappingsOfTheRange) {
  EXPECT_EQ(HugeBytes(0x7f0000000000, 0x7f0004000000), 62 * kMiB);
  EXPECT_EQ(HugeBytes(0x7f0001000000, 0x7f0002000000), 62 * kMiB);
  EXPECT_EQ(HugeBytes(0x7f0003000000, 0x7f0004100000), 64 * kMiB);
  EXPECT_EQ(HugeBytes(0x400000, 0x500000), 0u);
  EXPECT_EQ(HugeBytes(0x600000, 0x700000), 0u);
}

TEST(HugePages, OtherTextsHaveNone) {
  for (const char* text : {"", "nothing\n", "7f00-\nAnonHugePages: 4 kB\n", "AnonHugePages:\n"}) {
    std::istringstream smaps(text);
    EXPECT_EQ(HugeBytesOf(smaps, 1, ~uint64_t{0}), 0u) << text;
  }
}

}  // namespace
}  // namespace thermocline::worker
