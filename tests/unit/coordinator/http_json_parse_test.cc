#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/http/json_parse.h"

namespace thermocline::coordinator::http {
namespace {

std::string ErrorOf(std::string_view text) {
  const auto result = ParseJsonObject(text);
  if (result.ok()) return "";
  EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
  return result.status().message();
}

TEST(JsonParseTest, ReadsAnObject) {
  const auto result = ParseJsonObject(R"({"a":[1,"]]]",{"b":"\"["}]})");
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ((*result)["a"][0], 1);
}

TEST(JsonParseTest, NamesWhatIsWrong) {
  EXPECT_EQ(ErrorOf(""), "body is empty; a JSON object is expected");
  EXPECT_EQ(ErrorOf("[1]"), "body must be a JSON object, not array");
  EXPECT_EQ(ErrorOf(R"({"a":})"), "body is not valid JSON in UTF-8: line=1 column=6 byte=6");
  EXPECT_EQ(ErrorOf("{\"a\":\"\xff\"}"), "body is not valid JSON in UTF-8: line=1 column=7 byte=7");
  EXPECT_EQ(ErrorOf(R"({"a":1e999})"), "body holds a number out of range");
}

TEST(JsonParseTest, NamesThePlaceAsEditorsDo) {
  // A comma before the brace, as people leave behind; the umlauts are two bytes each.
  EXPECT_EQ(ErrorOf("{\n  \"prompt\": \"\u00e4\u00f6\",\n}"),
            "body is not valid JSON in UTF-8: line=3 column=1 byte=23");
  EXPECT_EQ(ErrorOf("{\"a\": \"\u00e4\u00f6\" x}"),
            "body is not valid JSON in UTF-8: line=1 column=12 byte=14");
  EXPECT_EQ(ErrorOf("{\"a\":\n 1"), "body ends within a JSON value: line=2 column=3 byte=9");
  EXPECT_EQ(ErrorOf("{\"a\":\r\n\"b"), "body ends within a JSON value: line=2 column=3 byte=10");
}

TEST(JsonParseTest, NeverRepeatsTheClientsText) {
  EXPECT_EQ(ErrorOf(R"({"secret":secret})").find("secret"), std::string::npos);
}

TEST(JsonParseTest, DepthAtTheLimitIsFineAndAboveIsNot) {
  const auto nested = [](int depth) {
    return "{\"a\":" + std::string(depth - 1, '[') + std::string(depth - 1, ']') + "}";
  };
  EXPECT_EQ(ErrorOf(nested(kMaxJsonDepth)), "");
  EXPECT_EQ(ErrorOf(nested(kMaxJsonDepth + 1)),
            "body nests too deep: line=1 column=69 byte=69 limit=64");
}

TEST(JsonParseTest, RefusesTooManyValues) {
  std::string text = "{\"a\":[0";
  for (size_t i = 0; i < kMaxJsonValues; ++i) text += ",0";
  EXPECT_TRUE(ErrorOf(text + "]}").starts_with("body has too many values:"));
}

}  // namespace
}  // namespace thermocline::coordinator::http
