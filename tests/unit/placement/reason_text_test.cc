#include "placement/reason_text.h"

#include <gtest/gtest.h>

namespace thermocline::placement {
namespace {

TEST(ReasonTextTest, ShortTimesKeepMoreDigits) {
  EXPECT_EQ(MillisecondsText(1.2345), "1234.5 ms");
  EXPECT_EQ(MillisecondsText(0.0012345), "1.23 ms");
  EXPECT_EQ(MillisecondsText(0.0001), "0.1 ms");
  EXPECT_EQ(MillisecondsText(0.00005364), "0.0536 ms");
  EXPECT_EQ(MillisecondsText(1e-9), "0 ms");
}

TEST(ReasonTextTest, OneLayerIsNoRange) {
  EXPECT_EQ(LayersText(0, 12), "0-11");
  EXPECT_EQ(LayersText(3, 4), "3");
}

}  // namespace
}  // namespace thermocline::placement
