#include "tools/subcommands.h"

#include <gtest/gtest.h>

namespace thermocline::tools {
namespace {

TEST(Subcommands, NamesTheProgramOfEach) {
  EXPECT_EQ(*FindSubcommand("serve"), "thermocline-coordinator");
  EXPECT_EQ(*FindSubcommand("worker"), "thermocline-worker");
  EXPECT_EQ(*FindSubcommand("generate"), "thermocline-generate");
  EXPECT_EQ(*FindSubcommand("convert"), "thermocline-convert");
  EXPECT_EQ(*FindSubcommand("synth"), "thermocline-synth");
}

TEST(Subcommands, SuggestsTheNearest) {
  EXPECT_EQ(FindSubcommand("server").status().message(),
            "unknown command \"server\"; did you mean \"serve\"?");
  EXPECT_EQ(FindSubcommand("frobnicate").status().message(),
            "unknown command \"frobnicate\"; see thermocline --help");
}

TEST(Subcommands, HelpListsAll) {
  for (const char* name :
       {"serve", "worker", "generate", "bench", "inspect", "convert", "synth"}) {
    EXPECT_NE(ListSubcommands().find(name), std::string::npos) << name;
  }
}

TEST(ShortFlags, LlamaCppsWordsBecomeLongOnes) {
  EXPECT_EQ(LongSpelling("-np"), "--parallel");
  EXPECT_EQ(LongSpelling("-ctk"), "--cache-type-k");
  EXPECT_EQ(LongSpelling("-n"), "-n");
}

TEST(ShortFlags, OtherWordsAreNotSpelledOut) {
  for (const char* word : {"-ngl", "-hf", "-fa"}) EXPECT_TRUE(IsUnknownShortWord(word)) << word;
  for (const char* fine : {"-n", "-n8", "-1", "--port", "-", "text", "-0.5"}) {
    EXPECT_FALSE(IsUnknownShortWord(fine)) << fine;
  }
}

TEST(EditDistance, CountsSingleEdits) {
  EXPECT_EQ(EditDistance("serve", "serve"), 0);
  EXPECT_EQ(EditDistance("serve", "sevre"), 2);
  EXPECT_EQ(EditDistance("", "abc"), 3);
}

}  // namespace
}  // namespace thermocline::tools
