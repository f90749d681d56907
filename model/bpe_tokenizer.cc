#include "model/bpe_tokenizer.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "base/log.h"
#include "base/str.h"
#include "model/unicode.h"

namespace thermocline::model {
namespace {

// The code points by which files spell bytes: printable Latin-1 stands for itself, and the other 68
// bytes, in order, are U+0100 and on.
constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}
constexpr int kFirstShifted = 0x100;
constexpr int kNumShifted = 68;

// Index: code point. Value: the byte it stands for, or -1.
constexpr std::array<int, kFirstShifted + kNumShifted> MakeAlphabet() {
  std::array<int, kFirstShifted + kNumShifted> byte_of{};
  int next_shifted = kFirstShifted;
  for (int& byte : byte_of) byte = -1;
  for (int byte = 0; byte < 256; ++byte) {
    byte_of[StandsForItself(byte) ? byte : next_shifted++] = byte;
  }
  return byte_of;
}
constexpr auto kByteOfCodepoint = MakeAlphabet();

// The bytes that `text` spells, or nullopt when it leaves the alphabet.
std::optional<std::string> SpeltBytes(std::string_view text) {
  std::string bytes;
  for (size_t at = 0; at < text.size();) {
    const Utf8Unit unit = ScanUtf8(text.substr(at));
    if (unit.kind != Utf8Kind::kValid || unit.codepoint >= kByteOfCodepoint.size()) return {};
    const int byte = kByteOfCodepoint[unit.codepoint];
    if (byte < 0) return {};
    bytes.push_back(static_cast<char>(byte));
    at += unit.n_bytes;
  }
  return bytes;
}

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A link of the list of what a word is made of so far.
struct Symbol {
  int32_t token;  // kNoToken: a byte without one, or merged away
  int prev;
  int next;
  char byte;  // of a symbol that is still one byte
};

// A queued merge as one number: the smaller comes first, by rank, then by position. It names only
// its left symbol; what stands right of it, and whether the two still merge by that rank, is looked
// up when its turn comes.
uint64_t QueueKey(int32_t rank, int left) {
  return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(left);
}

}  // namespace

// Reused from word to word of one call.
struct BpeTokenizer::Scratch {
  std::vector<Symbol> symbols;
  std::vector<uint64_t> heap;  // QueueKeys, the smallest on top
};

Result<std::unique_ptr<Tokenizer>> BpeTokenizer::Create(TokenizerData data) {
  if (data.pre.empty()) {
    LogWarn("model", "the file names no pre-tokenizer (tokenizer.ggml.pre): using default");
    data.pre = "default";
  }
  TC_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Create(data.pre));
  if (data.merges.empty()) return InvalidArgument("tokenizer.ggml.merges is missing or empty");
  if (data.merges.size() > kMaxMerges) {
    return InvalidArgument(Str("too many merges in tokenizer.ggml.merges:",
                               Kv("count", data.merges.size()), Kv("max", kMaxMerges)));
  }
  const bool add_bos = pre_tokenizer.add_bos() && data.bos.has_value();
  TC_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Create(&data, {.add_bos = add_bos}));
  std::unique_ptr<BpeTokenizer> tokenizer(
      new BpeTokenizer(std::move(vocabulary), std::move(pre_tokenizer)));
  tokenizer->IndexTokens();
  TC_RETURN_IF_ERROR(tokenizer->IndexMerges(data.merges));
  return std::unique_ptr<Tokenizer>(std::move(tokenizer));
}

BpeTokenizer::BpeTokenizer(Vocabulary vocabulary, PreTokenizer pre_tokenizer)
    : vocabulary_(std::move(vocabulary)), pre_tokenizer_(std::move(pre_tokenizer)) {
  byte_tokens_.fill(kNoToken);
}

void BpeTokenizer::IndexTokens() {
  bytes_.resize(vocabulary_.size());
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    const TokenType type = vocabulary_.Type(id);
    if (type != TokenType::kNormal && type != TokenType::kByte) continue;
    std::optional<std::string> bytes = SpeltBytes(vocabulary_.Text(id));
    if (!bytes || bytes->empty()) continue;
    bytes_[id] = *std::move(bytes);
    words_.try_emplace(bytes_[id], id);  // of duplicates the first wins
    int32_t& byte_token = byte_tokens_[static_cast<uint8_t>(bytes_[id][0])];
    if (bytes_[id].size() == 1 && byte_token == kNoToken) byte_token = id;
  }
}

Status BpeTokenizer::IndexMerges(const std::vector<std::string>& merges) {
  std::unordered_map<std::string_view, int32_t> ids;
  // Of duplicates the first that is spelt in bytes wins, as in words_; else the first.
  for (const bool spelt : {true, false}) {
    for (int32_t id = 0; id < vocabulary_.size(); ++id) {
      if (spelt != bytes_[id].empty()) ids.try_emplace(vocabulary_.Text(id), id);
    }
  }
  const auto find = [&](std::string_view text) {
    const auto found = ids.find(text);
    return found == ids.end() ? kNoToken : found->second;
  };
  merges_.reserve(merges.size());
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const size_t space = merge.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == merge.size()) {
      return InvalidArgument(Str("merge is not two tokens and a space:", Kv("merge", i), " text=\"",
                                 Printable(merge), "\""));
    }
    const std::string_view left = merge.substr(0, space);
    const std::string_view right = merge.substr(space + 1);
    const int32_t left_id = find(left);
    const int32_t right_id = find(right);
    const int32_t merged_id = find(Str(left, right));
    if (left_id == kNoToken || right_id == kNoToken || merged_id == kNoToken) {
      return InvalidArgument(Str("merge names or makes a token that is not in the vocabulary:",
                                 Kv("merge", i), " text=\"", Printable(merge), "\""));
    }
    const TokenType type = vocabulary_.Type(merged_id);
    if (type == TokenType::kControl || type == TokenType::kUnknown || type == TokenType::kUnused) {
      continue;
    }
    merges_.try_emplace(PairKey(left_id, right_id), Merge{static_cast<int32_t>(i), merged_id});
  }
  return OkStatus();
}

std::vector<int32_t> BpeTokenizer::Encode(std::string_view text,
                                          const EncodeOptions& options) const {
  return vocabulary_.Encode(text, options,
                            [&](std::span<const Fragment> fragments, std::vector<int32_t>* ids) {
                              Scratch scratch;
                              for (const Fragment& fragment : fragments) {
                                if (fragment.token == Fragment::kText) {
                                  EncodeFragment(fragment.text, &scratch, ids);
                                } else {
                                  ids->push_back(fragment.token);
                                }
                              }
                            });
}

void BpeTokenizer::EncodeFragment(std::string_view text, Scratch* scratch,
                                  std::vector<int32_t>* ids) const {
  while (!text.empty()) {
    const size_t n_valid = ValidUtf8Prefix(text);
    for (const std::string_view word : pre_tokenizer_.Split(text.substr(0, n_valid))) {
      EncodeWord(word, scratch, ids);
    }
    if (n_valid == text.size()) return;
    AppendByte(text[n_valid], ids);
    text.remove_prefix(n_valid + 1);
  }
}

void BpeTokenizer::AppendByte(char byte, std::vector<int32_t>* ids) const {
  const int32_t token = byte_tokens_[static_cast<uint8_t>(byte)];
  if (token != kNoToken) {
    ids->push_back(token);
  } else if (special().unknown) {
    ids->push_back(*special().unknown);
  }
}

void BpeTokenizer::LoadSymbols(std::string_view word, Scratch* scratch) const {
  scratch->symbols.clear();
  scratch->heap.clear();
  const int n = static_cast<int>(word.size());
  for (int i = 0; i < n; ++i) {
    const int next = i + 1 < n ? i + 1 : -1;
    scratch->symbols.push_back({byte_tokens_[static_cast<uint8_t>(word[i])], i - 1, next, word[i]});
  }
}

const BpeTokenizer::Merge* BpeTokenizer::FindMerge(int left, const Scratch& scratch) const {
  if (left < 0) return nullptr;
  const int right = scratch.symbols[left].next;
  if (right < 0) return nullptr;
  const int32_t left_token = scratch.symbols[left].token;
  const int32_t right_token = scratch.symbols[right].token;
  if (left_token == kNoToken || right_token == kNoToken) return nullptr;
  const auto found = merges_.find(PairKey(left_token, right_token));
  return found == merges_.end() ? nullptr : &found->second;
}

void BpeTokenizer::Propose(int left, Scratch* scratch) const {
  const Merge* merge = FindMerge(left, *scratch);
  if (!merge) return;
  scratch->heap.push_back(QueueKey(merge->rank, left));
  std::push_heap(scratch->heap.begin(), scratch->heap.end(), std::greater<>());
}

// O(n log n): each of fewer than n merges queues at most two more.
void BpeTokenizer::EncodeWord(std::string_view word, Scratch* scratch,
                              std::vector<int32_t>* ids) const {
  if (pre_tokenizer_.ignore_merges()) {
    if (const auto whole = words_.find(word); whole != words_.end()) {
      ids->push_back(whole->second);
      return;
    }
  }
  LoadSymbols(word, scratch);
  std::vector<Symbol>& symbols = scratch->symbols;
  for (int i = 0; i < static_cast<int>(symbols.size()); ++i) Propose(i, scratch);
  while (!scratch->heap.empty()) {
    std::pop_heap(scratch->heap.begin(), scratch->heap.end(), std::greater<>());
    const uint64_t key = scratch->heap.back();
    scratch->heap.pop_back();
    const int left = static_cast<int>(key & UINT32_MAX);
    const Merge* merge = FindMerge(left, *scratch);
    if (!merge || QueueKey(merge->rank, left) != key) continue;  // a neighbour has merged since
    Symbol& right = symbols[symbols[left].next];
    symbols[left].token = merge->token;
    symbols[left].next = right.next;
    right.token = kNoToken;
    right.next = -1;
    if (symbols[left].next >= 0) symbols[symbols[left].next].prev = left;
    Propose(symbols[left].prev, scratch);
    Propose(left, scratch);
  }
  for (int i = symbols.empty() ? -1 : 0; i >= 0; i = symbols[i].next) {
    if (symbols[i].token != kNoToken) {
      ids->push_back(symbols[i].token);
    } else {
      AppendByte(symbols[i].byte, ids);
    }
  }
}

std::string BpeTokenizer::TokenBytes(int32_t id, bool with_special) const {
  switch (vocabulary_.Type(id)) {
    case TokenType::kNormal:
    case TokenType::kByte:
      // Text outside the byte alphabet is shown as it stands.
      return bytes_[id].empty() ? std::string(vocabulary_.Text(id)) : bytes_[id];
    case TokenType::kUserDefined:
      return std::string(vocabulary_.Text(id));
    case TokenType::kControl:
    case TokenType::kUnknown:
      return with_special ? std::string(vocabulary_.Text(id)) : std::string();
    case TokenType::kUnused:
      return {};
  }
  return {};
}

std::string BpeTokenizer::Decode(std::span<const int32_t> ids, bool with_special) const {
  std::string out;
  for (const int32_t id : ids) out += TokenBytes(id, with_special);
  return out;
}

}  // namespace thermocline::model
