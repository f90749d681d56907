#include "model/counts_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <string_view>

#include "base/str.h"
#include "base/units.h"
#include "model/config.h"
#include "model/torch_pickle.h"
#include "model/zip_archive.h"

namespace thermocline::model {
namespace {

// Eight bytes for each of the most neurons a layer may have, and as much for what is around them.
constexpr uint64_t kMaxFileBytes = 16 * kMiB;
static_assert(kMaxFileBytes >= 2 * sizeof(int64_t) * uint64_t{kMaxFf});
// No text has more tokens.
constexpr double kMaxCount = std::numeric_limits<int32_t>::max();

using Bytes = std::span<const std::byte>;

std::string_view TextOf(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <typename T>
double NumberAt(Bytes bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof value);
  return static_cast<double>(value);
}

double NumberAt(TorchType type, Bytes bytes, size_t index) {
  switch (type) {
    case TorchType::kInt32:
      return NumberAt<int32_t>(bytes, index);
    case TorchType::kInt64:
      return NumberAt<int64_t>(bytes, index);
    case TorchType::kFloat32:
      return NumberAt<float>(bytes, index);
    case TorchType::kFloat64:
      return NumberAt<double>(bytes, index);
  }
  return 0;
}

// `n` numbers, `stride` elements apart, from element `offset` of `bytes` on.
struct Elements {
  TorchType type;
  int64_t offset = 0;
  int64_t n = 0;
  int64_t stride = 1;
};

Result<std::vector<uint64_t>> CountsIn(Bytes bytes, const Elements& elements) {
  const auto n_stored = static_cast<int64_t>(bytes.size() / TorchTypeBytes(elements.type));
  if (elements.n < 1 || elements.n > kMaxFf) {
    return InvalidArgument(
        Str("impossible number of counts:", Kv("counts", elements.n), Kv("max", kMaxFf)));
  }
  // With stride, count and offset within what is stored none of the products below can wrap.
  const bool is_inside = elements.offset >= 0 && elements.offset < n_stored &&
                         elements.stride >= 1 && elements.stride <= n_stored &&
                         elements.offset + (elements.n - 1) * elements.stride < n_stored;
  if (!is_inside) {
    return DataLoss(Str("counts outside their data:", Kv("offset", elements.offset),
                        Kv("counts", elements.n), Kv("stride", elements.stride),
                        Kv("stored", n_stored)));
  }
  std::vector<uint64_t> counts;
  for (int64_t i = 0; i < elements.n; ++i) {
    const auto index = static_cast<size_t>(elements.offset + i * elements.stride);
    const double number = NumberAt(elements.type, bytes, index);
    if (!(number >= 0 && number <= kMaxCount)) {
      return InvalidArgument(Str("not a count:", Kv("index", i), Kv("value", number)));
    }
    counts.push_back(static_cast<uint64_t>(std::llround(number)));
  }
  return counts;
}

Result<std::vector<uint64_t>> ReadTorch(Bytes bytes) {
  TC_ASSIGN_OR_RETURN(const ZipArchive archive, ZipArchive::Parse(bytes));
  const auto order = archive.Find("byteorder");
  if (order.ok() && TextOf(*order) != "little") {
    return InvalidArgument(Str("numbers in another byte order: ", Printable(TextOf(*order))));
  }
  TC_ASSIGN_OR_RETURN(const Bytes pickle, archive.Find("data.pkl"));
  TC_ASSIGN_OR_RETURN(const TorchTensor tensor, ReadTorchPickle(pickle));
  if (tensor.shape.size() != 1 || tensor.strides.size() != 1) {
    return InvalidArgument(Str("counts need one dimension:", Kv("dims", tensor.shape.size())));
  }
  // Members of a folder: "<archive>/data/<key>", or "data/<key>" without one.
  const std::string member = "data/" + tensor.storage_key;
  TC_ASSIGN_OR_RETURN(const Bytes data, archive.Find(member));
  return CountsIn(data, {tensor.type, tensor.offset_elems, tensor.shape[0], tensor.strides[0]});
}

// The text of a .npy header: {'descr': '<i8', 'fortran_order': False, 'shape': (768,), }.
Result<std::vector<uint64_t>> ReadNpyBody(std::string_view header, Bytes data) {
  constexpr std::pair<std::string_view, TorchType> kTypes[] = {
      {"'<i4'", TorchType::kInt32},
      {"'<i8'", TorchType::kInt64},
      {"'<f4'", TorchType::kFloat32},
      {"'<f8'", TorchType::kFloat64},
  };
  const auto* const type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) {
    return header.find(t.first) != std::string_view::npos;
  });
  if (type == std::end(kTypes)) {
    return InvalidArgument(Str("npy file of a type that counts do not have: ", Printable(header)));
  }
  constexpr std::string_view kShape = "'shape': (";
  const size_t shape = header.find(kShape);
  int64_t n = 0;
  bool has_one_dimension = false;
  if (shape != std::string_view::npos) {
    const char* const end = header.data() + header.size();
    const auto [next, error] = std::from_chars(header.data() + shape + kShape.size(), end, n);
    has_one_dimension = error == std::errc() && end - next >= 2 && next[0] == ',' && next[1] == ')';
  }
  if (!has_one_dimension) {
    return InvalidArgument(Str("counts need one dimension: ", Printable(header)));
  }
  return CountsIn(data, {type->second, 0, n, 1});
}

constexpr std::string_view kNpyMagic("\x93NUMPY", 6);

Result<std::vector<uint64_t>> ReadNpy(Bytes bytes) {
  // Magic, version 1 (or 2 and 3, whose length takes four bytes), length of the header's text.
  const size_t length_at = kNpyMagic.size() + 2;
  const bool is_long = bytes.size() > length_at && static_cast<int>(bytes[kNpyMagic.size()]) > 1;
  const size_t text_at = length_at + (is_long ? 4 : 2);
  uint32_t n_text = 0;
  if (bytes.size() >= text_at) {
    std::memcpy(&n_text, bytes.data() + length_at, text_at - length_at);
  }
  if (bytes.size() < text_at || n_text > bytes.size() - text_at) {
    return DataLoss(
        Str("npy header leaves the file:", Kv("header", n_text), Kv("bytes", bytes.size())));
  }
  return ReadNpyBody(TextOf(bytes.subspan(text_at, n_text)), bytes.subspan(text_at + n_text));
}

Result<std::vector<uint64_t>> ReadBytes(Bytes bytes) {
  return TextOf(bytes).starts_with(kNpyMagic) ? ReadNpy(bytes) : ReadTorch(bytes);
}

}  // namespace

Result<std::vector<uint64_t>> ReadCounts(const RangeReader& reader) {
  if (reader.size_bytes() > kMaxFileBytes) {
    return InvalidArgument(Str("too large for a file of counts: ", reader.name(),
                               Kv("bytes", reader.size_bytes()), Kv("max", kMaxFileBytes)));
  }
  std::vector<std::byte> bytes(reader.size_bytes());
  TC_RETURN_IF_ERROR(reader.Read(0, bytes));
  auto counts = ReadBytes(bytes);
  if (!counts.ok()) return counts.status().WithContext(reader.name());
  return counts;
}

}  // namespace thermocline::model
