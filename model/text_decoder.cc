#include "model/text_decoder.h"

#include <algorithm>
#include <utility>

#include "base/str.h"
#include "model/unicode.h"

namespace thermocline::model {
namespace {

std::vector<size_t> Borders(std::string_view text) {
  std::vector<size_t> border(text.size(), 0);
  for (size_t i = 1; i < text.size(); ++i) {
    size_t n = border[i - 1];
    while (n > 0 && text[n] != text[i]) n = border[n - 1];
    border[i] = text[n] == text[i] ? n + 1 : 0;
  }
  return border;
}

}  // namespace

std::string TextDecoder::Push(std::string_view bytes) {
  const std::string input = std::exchange(tail_, {}).append(bytes);
  const std::string_view text = input;
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Unit unit = ScanUtf8(text.substr(at));
    const std::string_view taken = text.substr(at, unit.n_bytes);
    if (unit.kind == Utf8Kind::kIncomplete) {
      tail_ = taken;
    } else {
      out += unit.kind == Utf8Kind::kValid ? taken : kReplacementCharacter;
    }
    at += unit.n_bytes;
  }
  return out;
}

std::string TextDecoder::Flush() {
  if (tail_.empty()) return {};
  tail_.clear();
  return std::string(kReplacementCharacter);
}

Result<StopMatcher> StopMatcher::Create(const std::vector<std::string>& stops) {
  if (stops.size() > kMaxStops) {
    return InvalidArgument(
        Str("too many stop strings:", Kv("count", stops.size()), Kv("max", kMaxStops)));
  }
  StopMatcher matcher;
  for (const std::string& stop : stops) {
    if (stop.empty()) return InvalidArgument("stop string is empty");
    if (stop.size() > kMaxStopBytes) {
      return InvalidArgument(
          Str("stop string too long:", Kv("bytes", stop.size()), Kv("max", kMaxStopBytes)));
    }
    if (!IsValidUtf8(stop)) return InvalidArgument("stop string is not UTF-8");
    matcher.patterns_.push_back({stop, Borders(stop), 0});
  }
  return matcher;
}

int StopMatcher::Advance(char byte) {
  int complete = -1;
  for (size_t i = 0; i < patterns_.size(); ++i) {
    Pattern& p = patterns_[i];
    while (p.n_matched > 0 && p.text[p.n_matched] != byte) p.n_matched = p.border[p.n_matched - 1];
    if (p.text[p.n_matched] == byte) ++p.n_matched;
    if (p.n_matched < p.text.size()) continue;
    if (complete < 0 || p.text.size() > patterns_[complete].text.size()) {
      complete = static_cast<int>(i);
    }
  }
  return complete;
}

size_t StopMatcher::LongestPartialMatch() const {
  size_t longest = 0;
  for (const Pattern& p : patterns_) longest = std::max(longest, p.n_matched);
  return longest;
}

std::string StopMatcher::Push(std::string_view text) {
  if (stopped()) return {};
  for (const char byte : text) {
    held_.push_back(byte);
    matched_ = Advance(byte);
    if (!stopped()) continue;
    // Whatever another pattern held before the start of this match is ordinary text now.
    held_.resize(held_.size() - patterns_[matched_].text.size());
    return std::exchange(held_, {});
  }
  const size_t n_certain = held_.size() - LongestPartialMatch();
  std::string certain = held_.substr(0, n_certain);
  held_.erase(0, n_certain);
  return certain;
}

std::string StopMatcher::Flush() { return std::exchange(held_, {}); }

}  // namespace thermocline::model
