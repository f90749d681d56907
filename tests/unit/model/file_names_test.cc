#include "model/file_names.h"

#include <gtest/gtest.h>

namespace thermocline::model {
namespace {

TEST(FileNames, LieBesideTheModel) {
  EXPECT_EQ(ProfilePathOf("d/m.gguf"), "d/m.profile.gguf");
  EXPECT_EQ(SparsityPathOf("d/m.gguf"), "d/m.predictor.gguf");
}

TEST(FileNames, AnotherEndingStays) {
  EXPECT_EQ(ProfilePathOf("m.bin"), "m.bin.profile.gguf");
  EXPECT_EQ(ProfilePathOf("a.gguf/m"), "a.gguf/m.profile.gguf");
}

}  // namespace
}  // namespace thermocline::model
