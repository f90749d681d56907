#include "model/gguf.h"

#include <concepts>
#include <limits>
#include <type_traits>

#include "base/str.h"

namespace thermocline::model {
namespace {

using Metadata = std::map<std::string, GgufValue, std::less<>>;

Status WrongType(std::string_view key, std::string_view wanted) {
  return InvalidArgument(Str("metadata key has the wrong type: ", key, Kv("wanted", wanted)));
}

Result<const GgufValue*> FindValue(const Metadata& metadata, std::string_view key) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return NotFound(Str("metadata key is missing: ", key));
  return &found->second;
}

// Element conversions; false when the value is not representable.
bool Convert(uint64_t from, int64_t* to) {
  *to = static_cast<int64_t>(from);
  return from <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}
bool Convert(int64_t from, int64_t* to) {
  *to = from;
  return true;
}
bool Convert(double from, double* to) {
  *to = from;
  return true;
}
// An integer fits when its magnitude does not need more than a double's 53 bits.
template <std::integral T>
bool Convert(T from, double* to) {
  constexpr int64_t kExact = int64_t{1} << 53;
  *to = static_cast<double>(from);
  return *to >= -static_cast<double>(kExact) && *to <= static_cast<double>(kExact);
}
bool Convert(bool from, bool* to) {
  *to = from;
  return true;
}
bool Convert(const std::string& from, std::string* to) {
  *to = from;
  return true;
}

template <typename From, typename To>
concept Convertible = requires(const From& from, To* to) {
  { Convert(from, to) } -> std::same_as<bool>;
};
// bool must not pass for a number, nor a number for a bool.
template <typename From, typename To>
inline constexpr bool kConvertible = Convertible<From, To>&& std::is_same_v<From, bool> ==
                                         std::is_same_v<To, bool> &&
                                     (std::is_same_v<To, double> || !std::is_same_v<From, double>);

template <typename To>
Result<To> GetScalar(const Metadata& metadata, std::string_view key, std::string_view wanted) {
  TC_ASSIGN_OR_RETURN(const GgufValue* value, FindValue(metadata, key));
  return std::visit(
      [&](const auto& from) -> Result<To> {
        To to{};
        if constexpr (kConvertible<std::decay_t<decltype(from)>, To>) {
          if (Convert(from, &to)) return to;
        }
        return WrongType(key, wanted);
      },
      *value);
}

template <typename T>
struct ElementOf {
  using type = void;
};
template <typename T>
struct ElementOf<std::vector<T>> {
  using type = T;
};

template <typename To>
Result<std::vector<To>> GetArray(const Metadata& metadata, std::string_view key,
                                 std::string_view wanted) {
  TC_ASSIGN_OR_RETURN(const GgufValue* value, FindValue(metadata, key));
  return std::visit(
      [&](const auto& from) -> Result<std::vector<To>> {
        using From = typename ElementOf<std::decay_t<decltype(from)>>::type;
        if constexpr (!std::is_void_v<From>) {
          if constexpr (kConvertible<From, To>) {
            std::vector<To> to(from.size());
            for (size_t i = 0; i < from.size(); ++i) {
              if (!Convert(from[i], &to[i])) return WrongType(key, wanted);
            }
            return to;
          }
        }
        return WrongType(key, wanted);
      },
      *value);
}

}  // namespace

int64_t TensorInfo::n_rows() const {
  int64_t n = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) n *= shape[i];
  return n;
}

const TensorInfo* GgufFile::FindTensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Result<int64_t> GgufFile::GetInt(std::string_view key) const {
  return GetScalar<int64_t>(metadata_, key, "integer");
}
Result<double> GgufFile::GetFloat(std::string_view key) const {
  return GetScalar<double>(metadata_, key, "float");
}
Result<bool> GgufFile::GetBool(std::string_view key) const {
  return GetScalar<bool>(metadata_, key, "bool");
}
Result<std::string> GgufFile::GetString(std::string_view key) const {
  return GetScalar<std::string>(metadata_, key, "string");
}
Result<std::vector<std::string>> GgufFile::GetStrings(std::string_view key) const {
  return GetArray<std::string>(metadata_, key, "array of strings");
}
Result<std::vector<double>> GgufFile::GetFloats(std::string_view key) const {
  return GetArray<double>(metadata_, key, "array of floats");
}
Result<std::vector<int64_t>> GgufFile::GetInts(std::string_view key) const {
  return GetArray<int64_t>(metadata_, key, "array of integers");
}

}  // namespace thermocline::model
