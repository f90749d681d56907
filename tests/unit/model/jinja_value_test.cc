#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "model/jinja/runtime.h"
#include "model/jinja/text_of.h"
#include "model/jinja/utf8.h"
#include "model/jinja/value.h"

namespace thermocline::model::jinja {
namespace {

TEST(JinjaValue, DictKeepsOrderAndTheLastOfEqualKeys) {
  Runtime runtime({}, 0);
  std::vector<Entry> entries;
  for (int64_t i = 0; i < 100; ++i) entries.push_back({Value::Int((i * 37) % 50), Value::Int(i)});
  const auto dict = runtime.NewDict(entries);
  ASSERT_TRUE(dict.ok());
  ASSERT_EQ(dict->dict().entries().size(), 50u);
  for (int64_t i = 0; i < 50; ++i) {
    EXPECT_EQ(dict->dict().entries()[static_cast<size_t>(i)].key.integer(), (i * 37) % 50);
    const Value* const found = dict->dict().Find(Value::Float(static_cast<double>((i * 37) % 50)));
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->integer(), i + 50);
  }
  EXPECT_EQ(dict->dict().Find("absent"), nullptr);
}

TEST(JinjaValue, FloatsPrintAsPythonPrintsThem) {
  EXPECT_EQ(FloatText(1), "1.0");
  EXPECT_EQ(FloatText(-0.0), "-0.0");
  EXPECT_EQ(FloatText(0.1), "0.1");
  EXPECT_EQ(FloatText(1e16), "1e+16");
  EXPECT_EQ(FloatText(1.5e300), "1.5e+300");
  EXPECT_EQ(FloatText(123456789012345680.0), "1.2345678901234568e+17");
  EXPECT_EQ(FloatText(0.0001), "0.0001");
  EXPECT_EQ(FloatText(0.00001), "1e-05");
  EXPECT_EQ(FloatText(5e-324), "5e-324");
}

TEST(JinjaValue, BrokenUtf8IsCountedByteByByte) {
  EXPECT_EQ(CodePointCount("a\xff\xc3"), 3u);
  EXPECT_EQ(CodePointCount("\xe6\x97"), 2u);
  EXPECT_EQ(CodePointCount("é日🙂"), 3u);
  EXPECT_EQ(TrimRight("a\xff\xa0 "), "a\xff\xa0");
  EXPECT_EQ(TrimRight("é\xc2\xa0"), "é");
}

TEST(JinjaValue, ConcatNeverChangesAnEarlierString) {
  Runtime runtime({}, 0);
  const std::string base(2000, 'x');
  const auto first = runtime.Concat(base, "1");
  const auto second = runtime.Concat(first->text(), "2");
  const auto other = runtime.Concat(first->text(), "3");
  EXPECT_EQ(first->text(), base + "1");
  EXPECT_EQ(second->text(), base + "12");
  EXPECT_EQ(other->text(), base + "13");
}

}  // namespace
}  // namespace thermocline::model::jinja
