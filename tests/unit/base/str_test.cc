#include "base/str.h"

#include <gtest/gtest.h>

namespace thermocline {
namespace {

TEST(Str, Concatenates) {
  EXPECT_EQ(Str(""), "");
  EXPECT_EQ(Str("a", 1, ' ', 2.5, std::string("b")), "a1 2.5b");
}

TEST(Kv, NameAndValue) {
  EXPECT_EQ(Kv("end", 9183), " end=9183");
  EXPECT_EQ(Str("tensor outside file: w", Kv("end", 9), Kv("file", 8)),
            "tensor outside file: w end=9 file=8");
}

TEST(Printable, EscapesControlBytesAndQuotes) {
  EXPECT_EQ(Printable("plain text"), "plain text");
  EXPECT_EQ(Printable(std::string_view("a\nb\x1b[0m\0c\x7f", 10)), "a\\x0ab\\x1b[0m\\x00c\\x7f");
  EXPECT_EQ(Printable("say \"hi\" \\"), "say \\\"hi\\\" \\\\");
}

TEST(Printable, KeepsUtf8) { EXPECT_EQ(Printable("größe"), "größe"); }

TEST(Printable, CutsLongText) {
  EXPECT_EQ(Printable("abcdef", 3), "abc...");
  EXPECT_EQ(Printable("abc", 3), "abc");
  EXPECT_EQ(Printable(std::string(1000, 'x')).size(), 123u);
}

}  // namespace
}  // namespace thermocline
