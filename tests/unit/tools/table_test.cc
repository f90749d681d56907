#include "tools/table.h"

#include <gtest/gtest.h>

namespace thermocline::tools {
namespace {

TEST(Table, PadsByCharactersAndMarksAlignment) {
  Table table({{"name", Align::kLeft}, {"t/s"}});
  table.AddRow({"tg64", "9.5 ± 0.1"});
  table.AddRow({"prefill", "127"});
  EXPECT_EQ(table.Markdown(),
            "| name    |       t/s |\n"
            "| ------- | --------: |\n"
            "| tg64    | 9.5 ± 0.1 |\n"
            "| prefill |       127 |\n");
}

TEST(Table, EscapesBarsAndFillsShortRows) {
  Table table({{"a", Align::kLeft}, {"b"}});
  table.AddRow({"x|y"});
  EXPECT_EQ(table.Markdown(),
            "| a    |   b |\n"
            "| ---- | --: |\n"
            "| x\\|y |     |\n");
}

}  // namespace
}  // namespace thermocline::tools
