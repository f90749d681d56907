#include "model/zip_archive.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/gguf_image.h"

namespace thermocline::model {
namespace {

using testing::Packed;

// An archive of one member, with the fields that a test may make lie.
struct OneMember {
  std::string name = "a/data.pkl";
  std::string data = "hello";
  uint16_t method = 0, flags = 0, n_members = 1;
  uint32_t size = 5, offset = 0;

  std::string Bytes() const {
    const auto name_bytes = static_cast<uint16_t>(name.size());
    std::string local = Packed(uint32_t{0x04034b50}) + std::string(22, '\0') + Packed(name_bytes) +
                        Packed(uint16_t{3}) + name + "pad" + data;
    const std::string directory = Packed(uint32_t{0x02014b50}) + Packed(uint32_t{0}) +
                                  Packed(flags) + Packed(method) + std::string(8, '\0') +
                                  Packed(size) + Packed(size) + Packed(name_bytes) +
                                  std::string(12, '\0') + Packed(offset) + name;
    const std::string end = Packed(uint32_t{0x06054b50}) + std::string(4, '\0') +
                            Packed(n_members) + Packed(n_members) +
                            Packed(static_cast<uint32_t>(directory.size())) +
                            Packed(static_cast<uint32_t>(local.size())) + Packed(uint16_t{0});
    return local + directory + end;
  }
};

std::string Found(const std::string& bytes, std::string_view name) {
  const auto archive = ZipArchive::Parse(std::as_bytes(std::span(bytes)));
  if (!archive.ok()) return archive.status().message();
  const auto member = archive->Find(name);
  if (!member.ok()) return member.status().message();
  return {reinterpret_cast<const char*>(member->data()), member->size()};
}

TEST(ZipArchive, FindsStoredMembersInTheirFolder) {
  const std::string bytes = OneMember().Bytes();
  EXPECT_EQ(Found(bytes, "data.pkl"), "hello");
  EXPECT_EQ(Found(bytes, "a/data.pkl"), "hello");
  EXPECT_EQ(Found(bytes, "pkl"), "zip archive has no member: pkl");
  OneMember deeper;
  deeper.name = "a/b/data.pkl";
  EXPECT_EQ(Found(deeper.Bytes(), "data.pkl"), "zip archive has no member: data.pkl");
}

TEST(ZipArchive, ReadsNoOtherKind) {
  OneMember member;
  member.method = 8;
  EXPECT_EQ(Found(member.Bytes(), "data.pkl"), "zip member is compressed or encrypted: a/data.pkl");
  member = {};
  member.flags = 1;
  EXPECT_EQ(Found(member.Bytes(), "data.pkl"), "zip member is compressed or encrypted: a/data.pkl");
  member = {};
  member.offset = 0xFFFFFFFF;
  EXPECT_EQ(Found(member.Bytes(), "data.pkl"), "zip64 archives are not read: member=0");
}

TEST(ZipArchive, RecordsThatLieAreRefused) {
  OneMember member;
  member.size = 5000;
  EXPECT_EQ(Found(member.Bytes(), "data.pkl").find("zip member outside its archive"), 0u);
  member = {};
  member.offset = 5000;
  EXPECT_EQ(Found(member.Bytes(), "data.pkl").find("zip member outside its archive"), 0u);
  member = {};
  member.n_members = 2;
  EXPECT_EQ(Found(member.Bytes(), "data.pkl"), "zip directory ends early: member=1 members=2");
  member.n_members = 65535;
  EXPECT_EQ(Found(member.Bytes(), "data.pkl"),
            "zip archive has too many members: members=65535 max=4096");
}

}  // namespace
}  // namespace thermocline::model
