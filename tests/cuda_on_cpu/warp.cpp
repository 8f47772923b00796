// What the last lane to arrive does for all of them.
#include "tests/cuda_on_cpu/warp.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace longscan::cuda_on_cpu {
namespace {

// Calls act(lane, record) for the lanes of the mask, in order.
template <class Record, class Act>
void for_lanes(void* const* records, std::uint32_t mask, Act act) {
  for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    act(lane, *static_cast<Record*>(records[lane]));
  }
}

struct ShuffleRecord {
  void* value;
  std::size_t bytes;
  int source;
  std::uint64_t before;
};

void combine_shuffle(void* const* records, std::uint32_t mask) {
  for_lanes<ShuffleRecord>(records, mask, [&](int lane, ShuffleRecord& record) {
    if (record.source < 0 || record.source >= kWarpSize || (mask >> record.source & 1) == 0) {
      fail(fmt::format("lane {} shuffles from lane {}, which is not in the mask {:08x}", lane,
                       record.source, mask));
    }
    const auto& source = *static_cast<const ShuffleRecord*>(records[record.source]);
    std::memcpy(record.value, &source.before, record.bytes);
  });
}

struct BallotRecord {
  bool vote;
  std::uint32_t result;
};

void combine_ballot(void* const* records, std::uint32_t mask) {
  std::uint32_t result = 0;
  for_lanes<BallotRecord>(records, mask, [&](int lane, const BallotRecord& record) {
    result |= static_cast<std::uint32_t>(record.vote) << lane;
  });
  for_lanes<BallotRecord>(records, mask,
                          [&](int, BallotRecord& record) { record.result = result; });
}

template <class T>
struct ReduceRecord {
  T value;
  Reduction operation;
};

template <class T>
T apply(Reduction operation, T left, T right) {
  switch (operation) {
    case Reduction::add:  // wraps round, as on the GPU
      return static_cast<T>(static_cast<std::uint32_t>(left) + static_cast<std::uint32_t>(right));
    case Reduction::min:
      return std::min(left, right);
    case Reduction::max:
      return std::max(left, right);
    case Reduction::bit_and:
      return left & right;
    case Reduction::bit_or:
      return left | right;
    case Reduction::bit_xor:
      return left ^ right;
  }
  return left;
}

template <class T>
void combine_reduce(void* const* records, std::uint32_t mask) {
  const auto& first = *static_cast<const ReduceRecord<T>*>(records[std::countr_zero(mask)]);
  const Reduction operation = first.operation;
  T result = first.value;
  for_lanes<ReduceRecord<T>>(records, mask & (mask - 1), [&](int, const ReduceRecord<T>& record) {
    if (record.operation != operation) fail("lanes of a warp reduce in different ways");
    result = apply(operation, result, record.value);
  });
  for_lanes<ReduceRecord<T>>(records, mask,
                             [&](int, ReduceRecord<T>& record) { record.value = result; });
}

template <class T>
T reduce_values(std::uint32_t mask, T value, Reduction operation, const Location& location) {
  ReduceRecord<T> record{value, operation};
  meet_in_warp(mask, &record, combine_reduce<T>, location);
  return record.value;
}

struct MatchRecord {
  std::uint64_t value;
  std::uint32_t result;
};

void combine_match(void* const* records, std::uint32_t mask) {
  for_lanes<MatchRecord>(records, mask, [&](int, MatchRecord& mine) {
    mine.result = 0;
    for_lanes<MatchRecord>(records, mask, [&](int lane, const MatchRecord& other) {
      mine.result |= static_cast<std::uint32_t>(mine.value == other.value) << lane;
    });
  });
}

}  // namespace

void shuffle(std::uint32_t mask, void* value, std::size_t bytes, int source, Location location) {
  ShuffleRecord record{value, bytes, source, 0};
  std::memcpy(&record.before, value, bytes);
  meet_in_warp(mask, &record, combine_shuffle, location);
}

std::uint32_t ballot(std::uint32_t mask, bool vote, Location location) {
  BallotRecord record{vote, 0};
  meet_in_warp(mask, &record, combine_ballot, location);
  return record.result;
}

std::int32_t reduce(std::uint32_t mask, std::int32_t value, Reduction operation,
                    Location location) {
  return reduce_values(mask, value, operation, location);
}

std::uint32_t reduce(std::uint32_t mask, std::uint32_t value, Reduction operation,
                     Location location) {
  return reduce_values(mask, value, operation, location);
}

std::uint32_t match(std::uint32_t mask, const void* value, std::size_t bytes, Location location) {
  MatchRecord record{0, 0};
  std::memcpy(&record.value, value, std::min(bytes, sizeof record.value));
  meet_in_warp(mask, &record, combine_match, location);
  return record.result;
}

}  // namespace longscan::cuda_on_cpu
