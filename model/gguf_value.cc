#include "model/gguf_value.h"

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/str.h"
#include "model/gguf_parser.h"

namespace thermocline::model {
namespace {

Status ReadType(GgufCursor& cursor, std::string_view what, GgufValueType* type) {
  uint32_t id = 0;
  TC_RETURN_IF_ERROR(cursor.Read(&id));
  if (id >= kNumGgufValueTypes) return InvalidArgument(Str("unknown ", what, ":", Kv("id", id)));
  *type = static_cast<GgufValueType>(id);
  return OkStatus();
}

// Reads one value stored as `Stored` and widens it.
template <typename Stored, typename Wide>
Status ReadElement(GgufCursor& cursor, Wide* out) {
  if constexpr (std::is_same_v<Stored, std::string>) {
    return cursor.ReadString(0, kMaxStringBytes, out);
  } else if constexpr (std::is_same_v<Stored, bool>) {
    uint8_t byte = 0;
    TC_RETURN_IF_ERROR(cursor.Read(&byte));
    if (byte > 1) return DataLoss(Str("bool is neither 0 nor 1:", Kv("value", int{byte})));
    *out = byte == 1;
    return OkStatus();
  } else {
    Stored stored{};
    TC_RETURN_IF_ERROR(cursor.Read(&stored));
    *out = stored;
    return OkStatus();
  }
}

// Bytes that an element takes in the file at least: a string has its length.
template <typename Stored>
constexpr uint64_t kMinElemBytes = std::is_same_v<Stored, std::string> ? 8 : sizeof(Stored);

template <typename Stored, typename Wide>
Status ReadArray(GgufCursor& cursor, uint64_t n_elems, GgufValue* value) {
  if (n_elems > cursor.remaining() / kMinElemBytes<Stored>) {
    return DataLoss(Str("array outside file:", Kv("elements", n_elems),
                        Kv("min_element_bytes", kMinElemBytes<Stored>),
                        Kv("left", cursor.remaining())));
  }
  std::vector<Wide> elements;
  for (uint64_t i = 0; i < n_elems; ++i) {
    Wide element{};
    if (Status status = ReadElement<Stored>(cursor, &element); !status.ok()) {
      return status.WithContext(Str("element ", i));
    }
    elements.push_back(std::move(element));
  }
  *value = std::move(elements);
  return OkStatus();
}

template <typename Stored, typename Wide>
Status ReadScalar(GgufCursor& cursor, GgufValue* value) {
  Wide wide{};
  TC_RETURN_IF_ERROR(ReadElement<Stored>(cursor, &wide));
  *value = std::move(wide);
  return OkStatus();
}

template <typename Stored, typename Wide>
Status ReadAs(GgufCursor& cursor, const uint64_t* n_elems, GgufValue* value) {
  return n_elems == nullptr ? ReadScalar<Stored, Wide>(cursor, value)
                            : ReadArray<Stored, Wide>(cursor, *n_elems, value);
}

// A scalar when `n_elems` is null, else that many elements.
Status ReadTyped(GgufCursor& cursor, GgufValueType type, const uint64_t* n_elems,
                 GgufValue* value) {
  switch (type) {
    case GgufValueType::kU8:
      return ReadAs<uint8_t, uint64_t>(cursor, n_elems, value);
    case GgufValueType::kI8:
      return ReadAs<int8_t, int64_t>(cursor, n_elems, value);
    case GgufValueType::kU16:
      return ReadAs<uint16_t, uint64_t>(cursor, n_elems, value);
    case GgufValueType::kI16:
      return ReadAs<int16_t, int64_t>(cursor, n_elems, value);
    case GgufValueType::kU32:
      return ReadAs<uint32_t, uint64_t>(cursor, n_elems, value);
    case GgufValueType::kI32:
      return ReadAs<int32_t, int64_t>(cursor, n_elems, value);
    case GgufValueType::kF32:
      return ReadAs<float, double>(cursor, n_elems, value);
    case GgufValueType::kBool:
      return ReadAs<bool, bool>(cursor, n_elems, value);
    case GgufValueType::kString:
      return ReadAs<std::string, std::string>(cursor, n_elems, value);
    case GgufValueType::kU64:
      return ReadAs<uint64_t, uint64_t>(cursor, n_elems, value);
    case GgufValueType::kI64:
      return ReadAs<int64_t, int64_t>(cursor, n_elems, value);
    case GgufValueType::kF64:
      return ReadAs<double, double>(cursor, n_elems, value);
    case GgufValueType::kArray:
      break;
  }
  return InvalidArgument("array of arrays: nested arrays are not part of the format");
}

}  // namespace

std::string_view GgufValueTypeName(GgufValueType type) {
  static constexpr std::string_view kNames[kNumGgufValueTypes] = {
      "u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
      "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(type)];
}

Status ReadGgufValue(GgufCursor& cursor, GgufValueType* type, GgufValue* value) {
  TC_RETURN_IF_ERROR(ReadType(cursor, "value type", type));
  if (*type != GgufValueType::kArray) return ReadTyped(cursor, *type, nullptr, value);
  GgufValueType element_type{};
  uint64_t n_elems = 0;
  TC_RETURN_IF_ERROR(ReadType(cursor, "array element type", &element_type));
  TC_RETURN_IF_ERROR(cursor.Read(&n_elems));
  if (n_elems > kMaxArrayElems) {
    return InvalidArgument(
        Str("array too long:", Kv("elements", n_elems), Kv("max", kMaxArrayElems)));
  }
  return ReadTyped(cursor, element_type, &n_elems, value);
}

}  // namespace thermocline::model
