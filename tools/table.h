// Tables of text for reports.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace thermocline::tools {

enum class Align : unsigned char { kLeft, kRight };

struct TableColumn {
  std::string title;
  Align align = Align::kRight;
};

// "12.30": a cell with so many decimals.
std::string FixedPoint(double value, int decimals);

// Rows of cells under titles. A row may be shorter than the head; a '|' in a cell is escaped.
class Table {
 public:
  explicit Table(std::vector<TableColumn> columns) : columns_(std::move(columns)) {}

  void AddColumn(TableColumn column) { columns_.push_back(std::move(column)); }
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  // As Markdown, padded so that it reads well as plain text.
  std::string Markdown() const;

 private:
  std::vector<size_t> Widths() const;

  std::vector<TableColumn> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace thermocline::tools
