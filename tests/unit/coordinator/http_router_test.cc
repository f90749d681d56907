#include <gtest/gtest.h>

#include "coordinator/http/api_key.h"
#include "coordinator/http/request_id.h"
#include "coordinator/http/router.h"

namespace thermocline::coordinator::http {
namespace {

Router TestRouter() {
  return Router({{Method::kGet, "/models", {}},
                 {Method::kGet, "/models/*", {}},
                 {Method::kPost, "/completions", {}},
                 {Method::kGet, "/", {}}});
}

std::string Pattern(Method method, std::string_view path) {
  const Router router = TestRouter();
  const auto match = router.Find(method, path);
  return match.route ? match.route->pattern : "none " + match.allowed;
}

TEST(RouterTest, MatchesWithAndWithoutVersionAndSlash) {
  for (const char* path : {"/v1/models", "/models", "/models/", "/v1/models//"}) {
    EXPECT_EQ(Pattern(Method::kGet, path), "/models") << path;
  }
  EXPECT_EQ(Pattern(Method::kGet, "/"), "/");
  EXPECT_EQ(Pattern(Method::kHead, "/v1/models"), "/models");
}

TEST(RouterTest, TellsWrongMethodFromUnknownPath) {
  EXPECT_EQ(Pattern(Method::kPost, "/v1/models"), "none GET, HEAD, OPTIONS");
  EXPECT_EQ(Pattern(Method::kGet, "/v1/completions"), "none POST, OPTIONS");
  EXPECT_EQ(Pattern(Method::kGet, "/v1x/models"), "none ");
  EXPECT_EQ(Pattern(Method::kGet, "/model"), "none ");
}

TEST(RouterTest, GivesTheRestOfThePathDecoded) {
  const Router router = TestRouter();
  EXPECT_EQ(router.Find(Method::kGet, "/v1/models/org/a%20b").path_param, "org/a b");
}

TEST(RouterTest, MalformedEscapesStay) {
  EXPECT_EQ(PercentDecode("%4"), "%4");
  EXPECT_EQ(PercentDecode("%zz%41%"), "%zzA%");
}

TEST(ApiKeyTest, NoKeyGivenIsNoKey) {
  EXPECT_FALSE(IsAuthorized({}, {"first"}));
  EXPECT_FALSE(IsAuthorized({}, {""}));
  EXPECT_FALSE(IsAuthorized({.authorization = "Bearer "}, {""}));
}

TEST(ApiKeyTest, AcceptsEitherHeaderAndAnyOfTheKeys) {
  const std::vector<std::string> keys = {"first", "second"};
  EXPECT_TRUE(IsAuthorized({}, {}));
  EXPECT_FALSE(IsAuthorized({}, keys));
  EXPECT_TRUE(IsAuthorized({.authorization = "Bearer second"}, keys));
  EXPECT_TRUE(IsAuthorized({.authorization = "bearer  first"}, keys));
  EXPECT_TRUE(IsAuthorized({.x_api_key = "first"}, keys));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "Bearer firs", "Bearer firstt", "Basic first", "first"}) {
    EXPECT_FALSE(IsAuthorized({.authorization = wrong}, keys)) << wrong;
  }
}

TEST(RequestIdTest, TakesOverOnlyHarmlessIds) {
  EXPECT_EQ(RequestIdOf("abc-1"), "abc-1");
  for (const std::string& bad : {std::string(), std::string("a b"), std::string("a\r\nX: y"),
                                 std::string(kMaxRequestIdBytes + 1, 'a')}) {
    EXPECT_TRUE(RequestIdOf(bad).starts_with("req-"));
  }
  EXPECT_NE(MakeId("x-"), MakeId("x-"));
}

}  // namespace
}  // namespace thermocline::coordinator::http
