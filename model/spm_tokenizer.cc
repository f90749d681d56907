#include "model/spm_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "base/str.h"
#include "model/unicode.h"

namespace thermocline::model {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, SentencePiece's visible space

std::string EscapeSpaces(std::string_view text, bool prefix) {
  std::string out(prefix ? kSpaceMark : std::string_view());
  out.reserve(out.size() + text.size());
  for (const char c : text) {
    if (c == ' ') {
      out += kSpaceMark;
    } else {
      out += c;
    }
  }
  return out;
}

std::string UnescapeSpaces(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool space = text.substr(at).starts_with(kSpaceMark);
    out += space ? ' ' : text[at];
    at += space ? kSpaceMark.size() : 1;
  }
  return out;
}

// A run of text that is one piece so far; a link of a list ordered by position.
struct Symbol {
  std::string_view text;
  int prev;
  int next;
  int32_t token;  // the piece it is, or -1
};

// Two neighbours that the vocabulary joins.
struct Merge {
  float score;
  int left;
  int right;
  size_t n_bytes;  // of both when this was queued: a symbol that has merged since differs
  int32_t token;
};

// Best score first, then leftmost.
struct Worse {
  bool operator()(const Merge& a, const Merge& b) const {
    return a.score != b.score ? a.score < b.score : a.left > b.left;
  }
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> SpmTokenizer::Create(TokenizerData data) {
  if (data.scores.size() != data.tokens.size()) {
    return InvalidArgument(Str("tokenizer.ggml.scores does not match tokenizer.ggml.tokens:",
                               Kv("scores", data.scores.size()), Kv("tokens", data.tokens.size())));
  }
  for (size_t i = 0; i < data.scores.size(); ++i) {
    if (std::isnan(data.scores[i])) {
      return InvalidArgument(Str("token score is not a number:", Kv("token", i)));
    }
  }
  TC_ASSIGN_OR_RETURN(
      Vocabulary vocabulary,
      Vocabulary::Create(
          &data, {.bos = 1, .eos = 2, .unknown = 0, .add_bos = true, .bytes_by_text = true}));
  std::unique_ptr<SpmTokenizer> tokenizer(new SpmTokenizer(std::move(vocabulary)));
  tokenizer->scores_ = std::move(data.scores);
  tokenizer->add_space_prefix_ = data.add_space_prefix.value_or(true);
  tokenizer->IndexPieces();
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

SpmTokenizer::SpmTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {
  byte_tokens_.fill(kNoToken);
}

void SpmTokenizer::IndexPieces() {
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string_view text = vocabulary_.Text(id);
    const TokenType type = vocabulary_.Type(id);
    if (type == TokenType::kByte) {
      const int byte = ParseByteToken(text);
      if (byte >= 0 && byte_tokens_[byte] == kNoToken) byte_tokens_[byte] = id;
    } else if (type == TokenType::kNormal || type == TokenType::kUserDefined) {
      pieces_.try_emplace(text, id);
      max_piece_bytes_ = std::max(max_piece_bytes_, text.size());
    }
  }
}

int32_t SpmTokenizer::FindPiece(std::string_view text) const {
  if (text.size() > max_piece_bytes_) return kNoToken;
  const auto found = pieces_.find(text);
  return found == pieces_.end() ? kNoToken : found->second;
}

std::vector<int32_t> SpmTokenizer::Encode(std::string_view text,
                                          const EncodeOptions& options) const {
  return vocabulary_.Encode(
      text, options, [&](std::span<const Fragment> fragments, std::vector<int32_t>* ids) {
        bool after_special = true;  // the start counts as such
        for (const Fragment& fragment : fragments) {
          if (fragment.token == Fragment::kText) {
            EncodeEscaped(EscapeSpaces(fragment.text, add_space_prefix_ && after_special), ids);
          } else {
            ids->push_back(fragment.token);
          }
          after_special = fragment.token != Fragment::kText;
        }
      });
}

// O(n log n): each of fewer than n merges queues at most two more.
void SpmTokenizer::EncodeEscaped(std::string_view text, std::vector<int32_t>* ids) const {
  std::vector<Symbol> symbols;
  for (size_t at = 0; at < text.size();) {
    const Utf8Unit unit = ScanUtf8(text.substr(at));
    const size_t n_bytes = unit.kind == Utf8Kind::kValid ? unit.n_bytes : 1;
    const std::string_view symbol = text.substr(at, n_bytes);
    const int index = static_cast<int>(symbols.size());
    symbols.push_back({symbol, index - 1, index + 1, FindPiece(symbol)});
    at += n_bytes;
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  std::priority_queue<Merge, std::vector<Merge>, Worse> queue;
  const auto propose = [&](int left, int right) {
    if (left < 0 || right < 0) return;
    const std::string_view joined(symbols[left].text.data(),
                                  symbols[left].text.size() + symbols[right].text.size());
    const int32_t token = FindPiece(joined);
    if (token != kNoToken) queue.push({scores_[token], left, right, joined.size(), token});
  };
  for (int i = 1; i < static_cast<int>(symbols.size()); ++i) propose(i - 1, i);

  while (!queue.empty()) {
    const Merge merge = queue.top();
    queue.pop();
    Symbol& left = symbols[merge.left];
    Symbol& right = symbols[merge.right];
    // A merged-away symbol is empty, a merged one longer: either way the sum is another one.
    if (left.text.empty() || right.text.empty() ||
        left.text.size() + right.text.size() != merge.n_bytes) {
      continue;
    }
    left.text = std::string_view(left.text.data(), merge.n_bytes);
    left.token = merge.token;
    left.next = right.next;
    right.text = {};
    if (left.next >= 0) symbols[left.next].prev = merge.left;
    propose(left.prev, merge.left);
    propose(merge.left, left.next);
  }
  for (int i = 0; i >= 0; i = symbols[i].next) {
    if (symbols[i].token != kNoToken) {
      ids->push_back(symbols[i].token);
    } else {
      AppendBytes(symbols[i].text, ids);
    }
  }
}

// A character without a piece: its bytes, or the unknown token once when a byte has no token.
void SpmTokenizer::AppendBytes(std::string_view symbol, std::vector<int32_t>* ids) const {
  const auto byte_token = [&](char c) { return byte_tokens_[static_cast<uint8_t>(c)]; };
  const bool has_all =
      std::all_of(symbol.begin(), symbol.end(), [&](char c) { return byte_token(c) != kNoToken; });
  if (has_all) {
    for (const char c : symbol) ids->push_back(byte_token(c));
  } else if (special().unknown) {
    ids->push_back(*special().unknown);
  }
}

std::string SpmTokenizer::TokenBytes(int32_t id, bool with_special) const {
  const std::string_view text = vocabulary_.Text(id);
  switch (vocabulary_.Type(id)) {
    case TokenType::kNormal:
      return UnescapeSpaces(text);
    case TokenType::kUserDefined:
      return std::string(text);
    case TokenType::kByte: {
      const int byte = ParseByteToken(text);
      return byte < 0 ? std::string(text) : std::string(1, static_cast<char>(byte));
    }
    case TokenType::kControl:
    case TokenType::kUnknown:
      return with_special ? std::string(text) : std::string();
    case TokenType::kUnused:
      return {};
  }
  return {};
}

std::string SpmTokenizer::Decode(std::span<const int32_t> ids, bool with_special) const {
  std::string out;
  bool at_start = add_space_prefix_;
  for (const int32_t id : ids) {
    std::string bytes = TokenBytes(id, with_special);
    const bool added =
        at_start && vocabulary_.Type(id) == TokenType::kNormal && bytes.starts_with(' ');
    out.append(bytes, added ? 1 : 0, std::string::npos);
    if (vocabulary_.Type(id) != TokenType::kControl) at_start = false;
  }
  return out;
}

}  // namespace thermocline::model
