#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

namespace thermocline {
namespace {

constexpr uint64_t kUnlimited = std::numeric_limits<uint64_t>::max();

// A hierarchy of files like /sys/fs/cgroup.
class Cgroup : public ::testing::Test {
 protected:
  Cgroup() {
    std::string name = (std::filesystem::temp_directory_path() / "tc-cgroup-XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    root_ = name;
  }
  ~Cgroup() override { std::filesystem::remove_all(root_); }

  void Group(const std::string& path, const std::string& limit, uint64_t current,
             uint64_t page_cache) {
    const std::string folder = root_ + path;
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/memory.max") << limit << "\n";
    std::ofstream(folder + "/memory.current") << current << "\n";
    std::ofstream(folder + "/memory.stat")
        << "anon 5\nfile 99\ninactive_file " << page_cache / 2 << "\nactive_file "
        << page_cache - page_cache / 2 << "\n";
  }

  std::string root_;
};

TEST_F(Cgroup, PageCacheCountsAsFree) {
  Group("", "1000", 900, 300);
  EXPECT_EQ(CgroupMemoryRoom(root_, "0::/\n"), 400u);
}

TEST_F(Cgroup, TheTightestOfTheOwnGroupAndItsParentsCounts) {
  Group("/a", "1000", 200, 0);
  Group("/a/b", "max", 100, 0);
  Group("/a/b/c", "900", 50, 0);
  EXPECT_EQ(CgroupMemoryRoom(root_, "1:name=systemd:/x\n0::/a/b/c\n"), 800u);
  Group("/a/b/c", "300", 50, 0);
  EXPECT_EQ(CgroupMemoryRoom(root_, "0::/a/b/c"), 250u);
  Group("/a/b/d", "10", 10, 0);
  EXPECT_EQ(CgroupMemoryRoom(root_, "0::/a/b/c"), 250u) << "a sibling is none of ours";
}

TEST_F(Cgroup, WithoutLimitsThereIsNoLimit) {
  EXPECT_EQ(CgroupMemoryRoom(root_, "0::/nowhere/at/all"), kUnlimited);
  EXPECT_EQ(CgroupMemoryRoom(root_, ""), kUnlimited);
  Group("", "max", 10, 0);
  EXPECT_EQ(CgroupMemoryRoom(root_, "0::/"), kUnlimited);
}

TEST_F(Cgroup, OverItsLimitThereIsNoRoom) {
  Group("", "100", 200, 20);
  EXPECT_EQ(CgroupMemoryRoom(root_, "0::/../other"), 0u);
}

}  // namespace
}  // namespace thermocline
