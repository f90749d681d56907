#include "tools/convert/report.h"

#include <algorithm>
#include <cstdio>

#include "base/str.h"
#include "base/units.h"

namespace thermocline::tools {
namespace {

// "blk.3.ffn_up.weight" -> "ffn_up.weight".
std::string WithoutLayer(const std::string& name) {
  if (!name.starts_with("blk.")) return name;
  const size_t dot = name.find('.', 4);
  return dot == std::string::npos ? name : name.substr(dot + 1);
}

std::string Percent(double ratio) {
  char text[32];
  std::snprintf(text, sizeof text, ratio == 0 ? "0" : "%.3g%%", ratio * 100);
  return text;
}

std::string Scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value == 0 ? "0" : "%.2e", value);
  return text;
}

using Row = std::vector<std::string>;

// Columns as wide as their widest cell; the first and last flush left, the others right.
std::string Align(const std::vector<Row>& rows) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - row[i].size(), ' ');
      const bool left = i == 0 || i + 1 == row.size();
      line += (i == 0 ? "" : "  ") + (left ? row[i] + padding : padding + row[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

Row Heading(const ReportColumns& columns) {
  Row row = {"tensors", "n", "from", "to", "before", "after"};
  if (columns.errors) row.insert(row.end(), {"rms error", "max error"});
  if (columns.explain) row.insert(row.end(), {"as int8", "as uint8"});
  row.push_back("");
  return row;
}

Row LineOf(const ReportGroup& group, const ReportColumns& columns) {
  Row row = {group.name,
             Str(group.n_tensors),
             std::string(DTypeName(group.from)),
             std::string(DTypeName(group.to)),
             FormatBytes(group.bytes_before),
             FormatBytes(group.bytes_after)};
  const TensorErrors& errors = group.errors;
  if (columns.errors) {
    row.push_back(Percent(errors.stored.relative_rms()));
    row.push_back(Scientific(errors.stored.max_error));
  }
  if (columns.explain) {
    row.push_back(Percent(errors.symmetric.relative_rms()));
    row.push_back(Percent(errors.asymmetric.relative_rms()));
  }
  row.push_back(group.note);
  return row;
}

}  // namespace

ReportGroup& ConversionReport::GroupOf(const PlannedTensor& tensor) {
  ReportGroup wanted;
  wanted.name = WithoutLayer(tensor.target.name);
  wanted.from = tensor.source->dtype();
  wanted.to = tensor.target.dtype;
  wanted.note = tensor.note;
  const auto found = std::find_if(groups_.begin(), groups_.end(), [&](const ReportGroup& group) {
    return group.name == wanted.name && group.from == wanted.from && group.to == wanted.to &&
           group.note == wanted.note;
  });
  if (found != groups_.end()) return *found;
  groups_.push_back(std::move(wanted));
  return groups_.back();
}

void ConversionReport::Add(const PlannedTensor& tensor, const TensorErrors& errors) {
  ReportGroup& group = GroupOf(tensor);
  ++group.n_tensors;
  group.bytes_before += tensor.source->view.bytes();
  group.bytes_after += tensor.target.size_bytes();
  group.errors.Add(errors);
}

std::string ConversionReport::Text(const ReportColumns& columns) const {
  std::vector<Row> rows = {Heading(columns)};
  uint64_t before = 0, after = 0;
  int n_tensors = 0;
  for (const ReportGroup& group : groups_) {
    rows.push_back(LineOf(group, columns));
    before += group.bytes_before;
    after += group.bytes_after;
    n_tensors += group.n_tensors;
  }
  Row total(rows.front().size());
  total[0] = "all";
  total[1] = Str(n_tensors);
  total[4] = FormatBytes(before);
  total[5] = FormatBytes(after);
  rows.push_back(std::move(total));
  return Align(rows);
}

}  // namespace thermocline::tools
