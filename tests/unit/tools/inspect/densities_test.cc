#include "tools/inspect/densities.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <functional>

#include "tests/support/gguf_image.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"
#include "tools/inspect/flags.h"

namespace thermocline::tools {
namespace {

// A profile beside a model that need not be there.
class DensitiesTest : public ::testing::Test {
 protected:
  ~DensitiesTest() override { std::remove(ProfilePathOf(model_.path()).c_str()); }

  static testing::GgufImage Profile(const std::vector<float>& densities) {
    testing::GgufImage image;
    image.AddString("general.architecture", "thermocline.profile")
        .AddString("thermocline.profile.model_fingerprint", "abc")
        .AddF32s("thermocline.profile.density", densities);
    return image;
  }
  void Write(const testing::GgufImage& image) {
    const std::vector<std::byte> bytes = image.Bytes();
    std::ofstream file(ProfilePathOf(model_.path()), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  Result<Densities> Find(double active = -1) const {
    return FindDensities({model_.path(), "abc", 2, active});
  }

  testing::TempFile model_{{}};
};

TEST(ProfilePath, LiesBesideTheModel) {
  EXPECT_EQ(ProfilePathOf("d/m.gguf"), "d/m.profile.gguf");
  EXPECT_EQ(ProfilePathOf("m.bin"), "m.bin.profile.gguf");
}

TEST_F(DensitiesTest, AreUnknownWithoutAProfile) {
  const auto found = Find();
  ASSERT_THAT(found.status(), testing::IsOk());
  EXPECT_TRUE(found->layers.empty());
}

TEST_F(DensitiesTest, ComeFromTheProfileOrTheFlag) {
  Write(Profile({0.25f, 0.5f}));
  EXPECT_EQ(Find()->layers, (std::vector<double>{0.25, 0.5}));
  EXPECT_EQ(Find()->source, ProfilePathOf(model_.path()));
  EXPECT_EQ(Find(0.1)->layers, (std::vector<double>{0.1, 0.1}));
}

TEST_F(DensitiesTest, OfABadProfileAreAnErrorThatNamesIt) {
  const auto message_of = [&](const testing::GgufImage& image) {
    Write(image);
    const Status status = Find().status();
    EXPECT_NE(status.message().find(ProfilePathOf(model_.path())), std::string::npos);
    return status.message();
  };
  EXPECT_NE(message_of(Profile({0.5f})).find("values=1 layers=2"), std::string::npos);
  EXPECT_NE(message_of(Profile({0.5f, 1.5f})).find("value=1.5"), std::string::npos);
  testing::GgufImage other;
  other.AddString("general.architecture", "llama");
  EXPECT_NE(message_of(other).find("not a profile"), std::string::npos);
  testing::GgufImage stranger;
  stranger.AddString("general.architecture", "thermocline.profile")
      .AddString("thermocline.profile.model_fingerprint", "xyz");
  EXPECT_NE(message_of(stranger).find("another model"), std::string::npos);
}

TEST(InspectFlags, AreWithinBounds) {
  const auto check = [](const std::function<void(InspectFlags*)>& change) {
    InspectFlags flags;
    change(&flags);
    return CheckInspectFlags(flags);
  };
  EXPECT_THAT(check([](InspectFlags*) {}), testing::IsOk());
  EXPECT_THAT(check([](InspectFlags* f) { f->active = 0; }), testing::IsOk());
  EXPECT_FALSE(check([](InspectFlags* f) { f->active = 1.1; }).ok());
  EXPECT_FALSE(check([](InspectFlags* f) { f->active = -0.5; }).ok());
  EXPECT_FALSE(check([](InspectFlags* f) { f->n_threads = -1; }).ok());
  EXPECT_FALSE(check([](InspectFlags* f) { f->n_context = -1; }).ok());
}

}  // namespace
}  // namespace thermocline::tools
