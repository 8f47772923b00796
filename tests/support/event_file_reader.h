// Reads TensorBoard event files byte by byte, without the library and without Protobuf, so that a
// test can tell what other programs will find in them.
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace longscan {

struct ReadEvent {
  double wall_time = 0;
  std::int64_t step = 0;
  std::string file_version;
  std::map<std::string, float> values;
  std::int64_t session_status = 0;
};

namespace event_file {

template <class T>
T take(std::string_view& bytes) {
  if (bytes.size() < sizeof(T)) throw std::runtime_error("the file ends within a number");
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes.remove_prefix(sizeof value);
  return value;
}

inline std::string_view take_bytes(std::string_view& bytes, std::uint64_t count) {
  if (bytes.size() < count) throw std::runtime_error("the file ends within a record");
  const std::string_view taken = bytes.substr(0, count);
  bytes.remove_prefix(count);
  return taken;
}

/// Bit by bit, as the definition of CRC-32C has it; masked as TFRecord files do.
inline std::uint32_t masked_checksum(std::string_view bytes) {
  std::uint32_t remainder = 0xFFFFFFFF;
  for (const char byte : bytes) {
    remainder ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) {
      remainder = remainder % 2 == 1 ? (remainder / 2) ^ 0x82F63B78 : remainder / 2;
    }
  }
  remainder = ~remainder;
  return ((remainder >> 15) | (remainder << 17)) + 0xA282EAD8;
}

inline std::uint64_t take_varint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    const auto byte = take<unsigned char>(bytes);
    value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return value;
  }
  throw std::runtime_error("a varint of more than 64 bits");
}

/// One field of a message in Protobuf's wire format.
struct Field {
  std::uint64_t number = 0;
  std::uint64_t integer = 0;  ///< wire type 0
  std::string_view bytes;     ///< wire types 1, 2 and 5
};

inline Field take_field(std::string_view& message) {
  const std::uint64_t key = take_varint(message);
  Field field;
  field.number = key / 8;
  switch (key % 8) {
    case 0:
      field.integer = take_varint(message);
      break;
    case 1:
      field.bytes = take_bytes(message, 8);
      break;
    case 2:
      field.bytes = take_bytes(message, take_varint(message));
      break;
    case 5:
      field.bytes = take_bytes(message, 4);
      break;
    default:
      throw std::runtime_error("an unknown wire type");
  }
  return field;
}

inline void read_value(std::string_view message, ReadEvent& event) {
  std::string tag;
  float number = 0;
  while (!message.empty()) {
    Field field = take_field(message);
    if (field.number == 1) tag = field.bytes;
    if (field.number == 2) number = take<float>(field.bytes);
  }
  event.values[tag] = number;
}

inline ReadEvent read_event(std::string_view message) {
  ReadEvent event;
  while (!message.empty()) {
    Field field = take_field(message);
    if (field.number == 1) event.wall_time = take<double>(field.bytes);
    if (field.number == 2) event.step = static_cast<std::int64_t>(field.integer);
    if (field.number == 3) event.file_version = field.bytes;
    if (field.number == 5) {
      while (!field.bytes.empty()) read_value(take_field(field.bytes).bytes, event);
    }
    if (field.number == 7) {
      event.session_status = static_cast<std::int64_t>(take_field(field.bytes).integer);
    }
  }
  return event;
}

}  // namespace event_file

/// The events of a file's contents. Throws when a record is cut off or a checksum is wrong.
inline std::vector<ReadEvent> read_events(std::string_view contents) {
  std::vector<ReadEvent> events;
  while (!contents.empty()) {
    const std::string_view length = event_file::take_bytes(contents, 8);
    if (event_file::take<std::uint32_t>(contents) != event_file::masked_checksum(length)) {
      throw std::runtime_error("wrong checksum of a length");
    }
    std::string_view length_bytes = length;
    const std::string_view data =
        event_file::take_bytes(contents, event_file::take<std::uint64_t>(length_bytes));
    if (event_file::take<std::uint32_t>(contents) != event_file::masked_checksum(data)) {
      throw std::runtime_error("wrong checksum of the data");
    }
    events.push_back(event_file::read_event(data));
  }
  return events;
}

}  // namespace longscan
