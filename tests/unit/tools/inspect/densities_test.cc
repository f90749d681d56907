#include "tools/inspect/densities.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <functional>

#include "model/file_names.h"
#include "model/sparsity_profile.h"
#include "tests/support/gguf_image.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_file.h"
#include "tools/inspect/flags.h"

namespace thermocline::tools {
namespace {

const std::string kFingerprint(32, 'a');

// A profile beside a model that need not be there.
class DensitiesTest : public ::testing::Test {
 protected:
  ~DensitiesTest() override { std::remove(model::ProfilePathOf(model_.path()).c_str()); }

  // Two layers of four neurons over eight tokens.
  static model::SparsityProfile Profile() {
    model::SparsityProfile profile;
    profile.fingerprint = kFingerprint;
    profile.n_tokens = 8;
    profile.layers.resize(2);
    profile.layers[0].fired = {2, 2, 2, 2};
    profile.layers[1].fired = {8, 8, 0, 0};
    return profile;
  }
  void Write(const model::SparsityProfile& profile) const {
    EXPECT_THAT(model::WriteSparsityProfile(profile, model::ProfilePathOf(model_.path())),
                testing::IsOk());
  }
  void Write(const testing::GgufImage& image) const {
    const std::vector<std::byte> bytes = image.Bytes();
    std::ofstream file(model::ProfilePathOf(model_.path()), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  Result<Densities> Find(double active = -1) const {
    return FindDensities({model_.path(), kFingerprint, 2, active});
  }

  testing::TempFile model_{{}};
};

TEST_F(DensitiesTest, AreUnknownWithoutAProfile) {
  const auto found = Find();
  ASSERT_THAT(found.status(), testing::IsOk());
  EXPECT_TRUE(found->layers.empty());
}

TEST_F(DensitiesTest, ComeFromTheProfileOrTheFlag) {
  Write(Profile());
  EXPECT_EQ(Find()->layers, (std::vector<double>{0.25, 0.5}));
  EXPECT_EQ(Find()->source, model::ProfilePathOf(model_.path()));
  EXPECT_EQ(Find(0.1)->layers, (std::vector<double>{0.1, 0.1}));
}

TEST_F(DensitiesTest, BatchesGoByTheUnionCurveWhereOneWasMeasured) {
  model::SparsityProfile profile = Profile();
  Write(profile);
  EXPECT_FALSE(Find()->has_unions());
  EXPECT_DOUBLE_EQ(Find()->ShareOf(0, 2), 1 - 0.75 * 0.75);
  profile.layers[1].quantiles.assign(model::kNumQuantiles, 0);
  profile.layers[1].union_shares = {0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f, 0.625f};
  Write(profile);
  EXPECT_TRUE(Find()->has_unions());
  EXPECT_DOUBLE_EQ(Find()->ShareOf(0, 2), 1 - 0.75 * 0.75);
  EXPECT_DOUBLE_EQ(Find()->ShareOf(1, 1), 0.5);
  EXPECT_DOUBLE_EQ(Find()->ShareOf(1, 32), 0.5);
  EXPECT_DOUBLE_EQ(Find()->ShareOf(1, 64), 0.625);
  // What is assumed has no curve.
  EXPECT_DOUBLE_EQ(Find(0.5)->ShareOf(1, 2), 0.75);
}

TEST_F(DensitiesTest, OfABadProfileAreAnErrorThatNamesIt) {
  const auto message_of = [&](const auto& file) {
    Write(file);
    const Status status = Find().status();
    EXPECT_NE(status.message().find(model::ProfilePathOf(model_.path())), std::string::npos);
    return status.message();
  };
  model::SparsityProfile profile = Profile();
  profile.layers.pop_back();
  EXPECT_NE(message_of(profile).find("profile=1 layers=2"), std::string::npos);
  profile.fingerprint = std::string(32, '7');
  EXPECT_NE(message_of(profile).find("another model"), std::string::npos);
  testing::GgufImage other;
  other.AddString("general.architecture", "llama");
  EXPECT_NE(message_of(other).find("not a profile"), std::string::npos);
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
