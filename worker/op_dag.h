// What the ops of one program wait for: true dependencies, and those of storage that is used again.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace thermocline::worker {

// Who carries an op out. Each unit has one executor.
enum class Unit : uint8_t {
  kDevice,  // computes
  kLink,    // sends and receives
};
inline constexpr size_t kUnits = 2;

// Ops of one program: a layer has about 20, and two more for each helper of the stage that shares
// its neurons, and for each that shares its heads.
inline constexpr size_t kMaxOps = 320;

// A set of ops of one program.
class OpSet {
 public:
  void Add(int op) { words_[Word(op)] |= Bit(op); }
  void Remove(int op) { words_[Word(op)] &= ~Bit(op); }
  bool Has(int op) const { return (words_[Word(op)] & Bit(op)) != 0; }
  OpSet operator|(const OpSet& others) const {
    OpSet both;
    for (size_t i = 0; i < words_.size(); ++i) both.words_[i] = words_[i] | others.words_[i];
    return both;
  }
  // The first op that is not in `others`; -1 when there is none.
  int FirstWithout(const OpSet& others) const {
    for (size_t i = 0; i < words_.size(); ++i) {
      const uint64_t word = words_[i] & ~others.words_[i];
      if (word != 0) return static_cast<int>(i * kWordBits) + std::countr_zero(word);
    }
    return -1;
  }

 private:
  static constexpr size_t kWordBits = 64;
  static size_t Word(int op) { return static_cast<size_t>(op) / kWordBits; }
  static uint64_t Bit(int op) { return uint64_t{1} << (static_cast<size_t>(op) % kWordBits); }

  std::array<uint64_t, kMaxOps / kWordBits> words_ = {};
};

// Ops of a section are begun by one of them and ended by another, and of all runs one at a time is
// between the two: members of a group do what they do together in one order, a section after the
// other.
enum class Section : uint8_t { kNone, kBegin, kEnd };

// What an op does to storage, whose places are numbered from 0.
struct OpAccess {
  Unit unit = Unit::kDevice;
  // Touches what is not in the places, the pages of keys and values: of such ops the k-th of a
  // younger run waits for the k-th of every older one.
  bool is_ordered = false;
  Section section = Section::kNone;  // that it begins or ends
  std::vector<int> reads;
  std::vector<int> writes;
};

// Immutable. An op waits for every earlier one that writes what it reads, reads what it writes or
// writes what it writes; so any order that respects this gives what the order of the list gives.
class OpDag {
 public:
  OpDag() = default;
  // At most kMaxOps ops.
  explicit OpDag(std::span<const OpAccess> ops);

  int size() const { return static_cast<int>(units_.size()); }
  Unit unit(int op) const { return units_[static_cast<size_t>(op)]; }
  // By op: how many it waits for.
  std::span<const uint16_t> prerequisites() const { return prerequisites_; }
  // The ops that wait for `op`.
  std::span<const uint16_t> dependents(int op) const {
    const auto i = static_cast<size_t>(op);
    return std::span(dependents_).subspan(begins_[i], begins_[i + 1] - begins_[i]);
  }
  // Those that wait for none.
  const OpSet& roots(Unit unit) const { return roots_[static_cast<size_t>(unit)]; }
  const OpSet& ordered() const { return ordered_; }
  const OpSet& section_begins() const { return section_begins_; }
  const OpSet& section_ends() const { return section_ends_; }

 private:
  std::vector<Unit> units_;
  std::vector<uint16_t> prerequisites_;
  std::vector<uint32_t> begins_;  // into dependents_, by op, with an end
  std::vector<uint16_t> dependents_;
  std::array<OpSet, kUnits> roots_;
  OpSet ordered_, section_begins_, section_ends_;
};

}  // namespace thermocline::worker
