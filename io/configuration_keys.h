// The keys of the configuration, found through Protobuf's reflection, so that a new field of
// config.proto needs no code here. Internal to `io`.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"

namespace longscan {

/// One value of the configuration, or a list of sections, and the way to it from the outermost
/// message.
class Key {
 public:
  explicit Key(std::vector<const google::protobuf::FieldDescriptor*> path);

  /// With dots: "model.attention.kind".
  std::string name() const;
  /// "an integer", "one of 'gelu', 'relu', 'swiglu'"; for single values
  std::string allowed() const;
  /// The value in text format, or its default. Of a list: `[{ ... }, { ... }]`.
  std::string value_text(const google::protobuf::Message& configuration) const;
  void set_default_if_absent(google::protobuf::Message& configuration) const;
  /// Throws usage with `where` when the text is no value of this key's type. A list gets the
  /// entries of the text in place of its own: one as in `layers: 3`, or any number as `value_text`
  /// has them.
  void set(google::protobuf::Message& configuration, std::string_view text,
           const std::string& where) const;

  const google::protobuf::FieldDescriptor& field() const { return *path_.back(); }
  bool is_list() const { return field().is_repeated(); }

 private:
  google::protobuf::Message& parent_in(google::protobuf::Message& configuration) const;
  bool assign(google::protobuf::Message& parent, std::string_view text) const;
  std::string list_text(const google::protobuf::Message& parent) const;
  void set_list(google::protobuf::Message& parent, std::string_view text) const;

  std::vector<const google::protobuf::FieldDescriptor*> path_;
};

/// Every key, in the order of config.proto.
std::vector<Key> all_keys();

/// The key of a dotted name. Throws usage with `where` when there is none, or when the name is that
/// of a section.
Key key_of(std::string_view dotted_name, const std::string& where);

/// The texts of two errors that Protobuf's parser finds too: a key that `message_name`
/// ("longscan.config.Model") does not have, and a value that no enumeration of a field `field_name`
/// has.
ErrorText unknown_key(std::string_view key, const std::string& message_name);
ErrorText unknown_value(std::string_view value, const std::string& field_name);

}  // namespace longscan
