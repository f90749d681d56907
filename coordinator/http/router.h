// Finds the handler of a method and a path.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/http/message.h"

namespace thermocline::coordinator::http {

// A request on its way through the handlers.
struct Call {
  HttpRequest request;
  std::string path_param;  // what a route ending in '*' matched, percent-decoded
  std::string request_id;
};

using Handler = std::function<void(Call call, std::shared_ptr<Exchange> exchange)>;

struct Route {
  Method method;        // kGet also serves HEAD
  std::string pattern;  // "/models"; a final '*' matches a non-empty rest
  Handler handler;
  bool is_public = false;  // needs no API key
};

// Immutable after construction, so thread-safe. Paths match with and without the prefix /v1 and
// trailing slashes.
class Router {
 public:
  struct Match {
    const Route* route = nullptr;  // null: no such path, or not with this method
    std::string path_param;
    std::string allowed;  // the methods of the path, for 405 and OPTIONS; "" when there is none
  };

  explicit Router(std::vector<Route> routes) : routes_(std::move(routes)) {}
  Match Find(Method method, std::string_view path) const;

 private:
  std::vector<Route> routes_;
};

// Decodes %41; a malformed escape stays as it is.
std::string PercentDecode(std::string_view text);

}  // namespace thermocline::coordinator::http
