#include "tools/convert/json_file.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/str.h"

namespace thermocline::tools {
namespace {

using nlohmann::json;

Status WrongType(std::string_view key, std::string_view wanted) {
  return InvalidArgument(Str("field is no ", wanted, ": ", key));
}

}  // namespace

bool FileExists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

Result<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes) {
  std::error_code error;
  const uint64_t n_bytes = std::filesystem::file_size(path, error);
  if (error) return NotFound(Str("no such file: ", path));
  if (n_bytes > max_bytes) {
    return InvalidArgument(
        Str("file too long: ", path, Kv("bytes", n_bytes), Kv("max", max_bytes)));
  }
  std::string text(n_bytes, '\0');
  std::ifstream in(path, std::ios::binary);
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in) return Unavailable(Str("cannot read: ", path));
  return text;
}

Result<json> ReadJsonFile(const std::string& path) {
  TC_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxJsonFileBytes));
  json value = json::parse(text, nullptr, false);
  if (!value.is_object()) return DataLoss(Str("file is no JSON object: ", path));
  return value;
}

const json* FindField(const json& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

Result<std::optional<int64_t>> IntField(const json& object, std::string_view key) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<int64_t>();
  if (!field->is_number_integer()) return WrongType(key, "integer");
  return std::optional(field->get<int64_t>());
}

Result<std::optional<double>> NumberField(const json& object, std::string_view key) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<double>();
  if (!field->is_number()) return WrongType(key, "number");
  return std::optional(field->get<double>());
}

Result<std::optional<bool>> BoolField(const json& object, std::string_view key) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<bool>();
  if (!field->is_boolean()) return WrongType(key, "bool");
  return std::optional(field->get<bool>());
}

Result<std::optional<std::string>> StringField(const json& object, std::string_view key) {
  const json* field = FindField(object, key);
  if (field == nullptr) return std::optional<std::string>();
  if (!field->is_string()) return WrongType(key, "text");
  return std::optional(field->get<std::string>());
}

}  // namespace thermocline::tools
