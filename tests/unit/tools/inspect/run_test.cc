#include "tools/inspect/run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/sparsity_image.h"
#include "tests/support/temp_file.h"
#include "tests/support/tiny_model.h"
#include "tests/support/tiny_model_parts.h"

namespace thermocline::tools {
namespace {

using ::testing::AllOf;
using testing::GgufImage;
using ::testing::HasSubstr;
using ::testing::Not;

// What inspect prints of a file; of one that it must be able to show.
std::string Shown(const GgufImage& image, bool json = false) {
  const testing::TempFile file(image.Bytes());
  InspectFlags flags;
  flags.model_path = file.path();
  flags.no_measure = true;
  flags.json = json;
  ::testing::internal::CaptureStdout();
  const Status status = RunInspect(flags);
  const std::string text = ::testing::internal::GetCapturedStdout();
  EXPECT_TRUE(status.ok()) << status;
  return text;
}

constexpr uint32_t kU16 = 2;  // GGUF's type id

// As llama-gguf-split leaves them: only the first part has the model's keys.
GgufImage Part(GgufImage image, uint16_t i_part) {
  image.AddRaw("split.no", kU16, testing::Packed(i_part))
      .AddRaw("split.count", kU16, testing::Packed(uint16_t{3}))
      .AddI32("split.tensors.count", 99);
  return image;
}

TEST(Inspect, APartOfASplitModelIsShownAsWhatItIs) {
  GgufImage first = testing::TinyModelImage({});
  first.RemoveTensor("blk.1.ffn_up.weight");  // is in another part
  EXPECT_THAT(Shown(Part(first, 0)),
              AllOf(HasSubstr("1 of 3; the numbers below are those of this file"),
                    HasSubstr("cannot run it: one part of several"),
                    HasSubstr("llama-gguf-split --merge"), HasSubstr("architecture         llama"),
                    HasSubstr("| ffn_gate.weight"), Not(HasSubstr("Roofline"))));
  GgufImage other;
  other.AddZeros("blk.1.ffn_up.weight", DType::kF32, {128, 64});
  EXPECT_THAT(Shown(Part(other, 2)),
              AllOf(HasSubstr("3 of 3"), HasSubstr("architecture         not named"),
                    HasSubstr("32.0 KiB")));
  EXPECT_THAT(Shown(Part(other, 2), true),
              AllOf(HasSubstr("\"part\": 2"), HasSubstr("\"parts\": 3"),
                    HasSubstr("\"not_runnable\": \"one part")));
}

TEST(Inspect, FilesBesideAModelAreNamed) {
  const auto config = testing::MakeTinyModelParts({}).config;
  EXPECT_THAT(Shown(testing::SparsityImage({}, config)),
              HasSubstr("cannot run it: it is no model but the sparsity file of one"));
  GgufImage profile;
  profile.AddString("general.architecture", "thermocline.profile");
  EXPECT_THAT(Shown(profile), HasSubstr("it is no model but the profile of one"));
  GgufImage stranger;
  stranger.AddString("general.architecture", "mamba");
  EXPECT_THAT(Shown(stranger), AllOf(HasSubstr("architecture: \"mamba\";"), Not(HasSubstr("\\"))));
}

}  // namespace
}  // namespace thermocline::tools
