#include "tools/table.h"

#include <algorithm>
#include <cstdio>

#include "base/str.h"

namespace thermocline::tools {
namespace {

// Characters as a terminal shows them: the bytes that begin one in UTF-8.
size_t WidthOf(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string Escaped(const std::string& cell) {
  std::string escaped;
  for (const char c : cell) escaped += c == '|' ? std::string("\\|") : std::string(1, c);
  return escaped;
}

std::string Padded(const std::string& cell, size_t width, Align align) {
  const std::string space(width - std::min(width, WidthOf(cell)), ' ');
  return align == Align::kLeft ? cell + space : space + cell;
}

}  // namespace

std::string FixedPoint(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

std::vector<size_t> Table::Widths() const {
  constexpr size_t kMinWidth = 3;  // "--:"
  std::vector<size_t> widths;
  for (const TableColumn& column : columns_) {
    widths.push_back(std::max(kMinWidth, WidthOf(column.title)));
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < std::min(row.size(), widths.size()); ++i) {
      widths[i] = std::max(widths[i], WidthOf(Escaped(row[i])));
    }
  }
  return widths;
}

std::string Table::Markdown() const {
  const std::vector<size_t> widths = Widths();
  std::string head, rule, body;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const bool left = columns_[i].align == Align::kLeft;
    head += Str("| ", Padded(columns_[i].title, widths[i], columns_[i].align), ' ');
    rule += Str("| ", std::string(widths[i] - 1, '-'), left ? "- " : ": ");
  }
  for (const auto& row : rows_) {
    for (size_t i = 0; i < columns_.size(); ++i) {
      const std::string cell = i < row.size() ? Escaped(row[i]) : "";
      body += Str("| ", Padded(cell, widths[i], columns_[i].align), ' ');
    }
    body += "|\n";
  }
  return Str(head, "|\n", rule, "|\n", body);
}

}  // namespace thermocline::tools
