#include "worker/column_reader.h"

#include <gtest/gtest.h>

#include <cstring>

namespace thermocline::worker {
namespace {

constexpr uint64_t kOffset = 64;

// A matrix of F32 whose value at (row, column) is row * 10000 + column, after kOffset bytes.
struct Matrix {
  Matrix(int64_t n_rows, int64_t n_cols) {
    info.dtype = DType::kF32;
    info.shape = {n_rows, n_cols};
    info.offset_bytes = kOffset;
    info.size_bytes = static_cast<uint64_t>(n_rows * n_cols) * sizeof(float);
    bytes.resize(kOffset + info.size_bytes);
    for (int64_t i = 0; i < n_rows * n_cols; ++i) {
      const auto value = static_cast<float>(i / n_cols * 10000 + i % n_cols);
      std::memcpy(bytes.data() + kOffset + static_cast<size_t>(i) * sizeof value, &value,
                  sizeof value);
    }
  }
  model::TensorInfo info;
  std::vector<std::byte> bytes;
};

TEST(ColumnsOf, WhatHasAPlaceWidenedToBlocks) {
  std::vector<int32_t> places(1000, -1);
  EXPECT_EQ(ColumnsOf({}, 1000), (ColumnRange{0, 1000}));
  EXPECT_EQ(ColumnsOf(places, 1000).size(), 0);
  places[300] = 0;
  EXPECT_EQ(ColumnsOf(places, 1000), (ColumnRange{256, 512}));
  places[999] = 1;
  EXPECT_EQ(ColumnsOf(places, 1000), (ColumnRange{256, 1000}));
}

TEST(ColumnReader, EveryColumnOnceInBoundedParts) {
  // 3000 rows: 4 MiB are 349 columns, so 256 at a time.
  const Matrix matrix(3000, 700);
  const auto reader = model::ReadFromMemory(matrix.bytes, "matrix");
  ColumnReader columns(matrix.info, *reader);
  const ColumnRange whole = {0, 700};
  int64_t next = 0;
  for (ColumnRange part = columns.First(whole); part.size() > 0; part = columns.Next(part, whole)) {
    EXPECT_EQ(part.begin, next);
    EXPECT_LE(part.size(), kColumnUnit);
    const auto read = columns.Read(part);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->n_rows, 3000);
    EXPECT_EQ(read->f32_row(2999)[0], static_cast<float>(29990000 + part.begin));
    EXPECT_EQ(read->f32_row(1)[part.size() - 1], static_cast<float>(10000 + part.end - 1));
    next = part.end;
  }
  EXPECT_EQ(next, 700);
}

TEST(ColumnReader, PrefetchReadsTheColumnsAndNothingElse) {
  const Matrix matrix(3000, 1024);
  const auto reader = model::ReadFromMemory(matrix.bytes, "matrix");
  ColumnReader columns(matrix.info, *reader);
  uint64_t n_bytes = 0;
  const auto count = [&](uint64_t n) {
    n_bytes += n;
    return OkStatus();
  };
  ASSERT_TRUE(columns.Prefetch({256, 512}, count).ok());
  EXPECT_EQ(n_bytes, 3000u * 256 * sizeof(float));
  n_bytes = 0;
  ASSERT_TRUE(columns.Prefetch({0, 1024}, count).ok());
  EXPECT_EQ(n_bytes, matrix.info.size_bytes);
}

TEST(ColumnReader, AFileThatIsTooShortIsAnErrorAndStopsAreObeyed) {
  Matrix matrix(512, 512);
  matrix.bytes.resize(matrix.bytes.size() - 1);
  const auto reader = model::ReadFromMemory(matrix.bytes, "matrix");
  ColumnReader columns(matrix.info, *reader);
  EXPECT_EQ(columns.Read({256, 512}).status().code(), StatusCode::kInvalidArgument);
  const Matrix whole(512, 512);
  const auto all = model::ReadFromMemory(whole.bytes, "matrix");
  const auto stop = [](uint64_t) { return Aborted("stop"); };
  EXPECT_EQ(ColumnReader(whole.info, *all).Prefetch({0, 512}, stop).code(), StatusCode::kAborted);
}

}  // namespace
}  // namespace thermocline::worker
