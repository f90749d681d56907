// Reads the JSON files of a checkpoint folder, whose fields may be missing or of any type.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"

namespace thermocline::tools {

// Longest JSON file: tokenizer.json of the largest vocabularies has about 35 MiB.
inline constexpr uint64_t kMaxJsonFileBytes = uint64_t{128} << 20;

// Whether there is something of that name that can be looked up.
bool FileExists(const std::string& path);
// The whole file. kNotFound, kUnavailable; kInvalidArgument beyond `max_bytes`.
Result<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes);
// An object. The codes of ReadWholeFile; kDataLoss when the file is no JSON object.
Result<nlohmann::json> ReadJsonFile(const std::string& path);

// Optional fields: nullopt when absent or null, kInvalidArgument when of another type.
Result<std::optional<int64_t>> IntField(const nlohmann::json& object, std::string_view key);
Result<std::optional<double>> NumberField(const nlohmann::json& object, std::string_view key);
Result<std::optional<bool>> BoolField(const nlohmann::json& object, std::string_view key);
Result<std::optional<std::string>> StringField(const nlohmann::json& object, std::string_view key);
// nullptr when absent or null.
const nlohmann::json* FindField(const nlohmann::json& object, std::string_view key);

}  // namespace thermocline::tools
