// A key is the path of fields from the configuration down to a single value.
#include "io/configuration_keys.h"

#include <fmt/ranges.h>
#include <google/protobuf/text_format.h>

#include <charconv>
#include <cstdint>
#include <memory>
#include <optional>

#include "io/config.pb.h"
#include "io/spelling.h"
#include "io/text_format.h"

namespace longscan {

namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Path = std::vector<const FieldDescriptor*>;

std::string dotted(const Path& path) {
  std::string name;
  for (const FieldDescriptor* field : path) name += (name.empty() ? "" : ".") + field->name();
  return name;
}

std::vector<std::string> names_of(const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return names;
}

std::vector<std::string> names_of(const Descriptor& section, const std::string& prefix) {
  std::vector<std::string> names;
  for (int i = 0; i < section.field_count(); ++i)
    names.push_back(prefix + section.field(i)->name());
  return names;
}

void collect_keys(const Descriptor& section, const Path& path, std::vector<Key>& keys) {
  for (int i = 0; i < section.field_count(); ++i) {
    Path longer = path;
    longer.push_back(section.field(i));
    const Descriptor* inner = section.field(i)->message_type();
    if (inner != nullptr && !section.field(i)->is_repeated()) {
      collect_keys(*inner, longer, keys);
    } else {
      keys.emplace_back(longer);
    }
  }
}

/// The dotted name of the section that has this type, somewhere within `outer`; empty when there is
/// none.
std::string section_name(const Descriptor& section, const Descriptor& outer, const Path& path) {
  for (int i = 0; i < outer.field_count(); ++i) {
    const Descriptor* inner = outer.field(i)->message_type();
    if (inner == nullptr) continue;
    Path longer = path;
    longer.push_back(outer.field(i));
    if (inner == &section) return dotted(longer);
    const std::string name = section_name(section, *inner, longer);
    if (!name.empty()) return name;
  }
  return "";
}

/// "layers: ... attention { ... }"
std::string outline_of(const Descriptor& section) {
  std::string outline;
  for (int i = 0; i < section.field_count(); ++i) {
    const FieldDescriptor& field = *section.field(i);
    outline += fmt::format("{}{}{}", i > 0 ? " " : "", field.name(),
                           field.message_type() == nullptr ? ": ..." : " { ... }");
  }
  return outline;
}

/// The dotted name of a key that has this name, first within the section, then anywhere.
std::string key_elsewhere(const Descriptor& section, std::string_view name,
                          const std::string& prefix) {
  for (int i = 0; i < section.field_count(); ++i) {
    const FieldDescriptor& field = *section.field(i);
    const Descriptor* inner = field.message_type();
    if (inner == nullptr || inner->FindFieldByName(std::string(name)) == nullptr) continue;
    return fmt::format("{}{}.{}", prefix, field.name(), name);
  }
  for (const Key& key : all_keys()) {
    if (key.field().name() == name) return key.name();
  }
  return "";
}

/// A misspelt key of this section, or else the right name of a key that lives elsewhere.
ErrorText unknown_key_in(const Descriptor& section, const std::string& section_name,
                         std::string_view name, const std::string& prefix) {
  std::vector<std::string> names = names_of(section, prefix);
  const std::string full_name = prefix + std::string(name);
  std::string hint = suggestion(full_name, names);
  if (nearest_name(full_name, names).empty()) {
    const std::string elsewhere = key_elsewhere(section, name, prefix);
    if (!elsewhere.empty()) hint = fmt::format("did you mean '{}'?", elsewhere);
  }
  const std::string place = section_name.empty() ? "" : fmt::format(" in '{}'", section_name);
  return {.what = fmt::format("unknown key '{}'{}", name, place), .hint = hint};
}

template <class Number>
std::optional<Number> number_of(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<bool> truth_of(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return std::nullopt;
}

}  // namespace

Key::Key(Path path) : path_(std::move(path)) {}

std::string Key::name() const {
  return dotted(path_);
}

std::string Key::allowed() const {
  switch (field().cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return "an integer of 64 bits";
    case FieldDescriptor::CPPTYPE_UINT64:
      return "an integer of 64 bits, not negative";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_STRING:
      return "text";
    case FieldDescriptor::CPPTYPE_ENUM:
      return fmt::format("one of '{}'", fmt::join(names_of(*field().enum_type()), "', '"));
    default:
      break;
  }
  throw Error(ErrorKind::internal, {.what = fmt::format("the type of {} is not supported", name()),
                                    .why = "config.proto uses a type that io does not read"});
}

Message& Key::parent_in(Message& configuration) const {
  Message* parent = &configuration;
  for (std::size_t i = 0; i + 1 < path_.size(); ++i) {
    parent = parent->GetReflection()->MutableMessage(parent, path_[i]);
  }
  return *parent;
}

std::string Key::value_text(const Message& configuration) const {
  const Message* parent = &configuration;
  for (std::size_t i = 0; i + 1 < path_.size(); ++i) {
    parent = &parent->GetReflection()->GetMessage(*parent, path_[i]);
  }
  if (is_list()) return list_text(*parent);
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(*parent, path_.back(), -1, &text);
  return text;
}

std::string Key::list_text(const Message& parent) const {
  std::vector<std::string> entries;
  const google::protobuf::Reflection& reflection = *parent.GetReflection();
  for (int i = 0; i < reflection.FieldSize(parent, &field()); ++i) {
    entries.push_back(fmt::format(
        "{{ {} }}", print_text_format(reflection.GetRepeatedMessage(parent, &field(), i), true)));
  }
  return fmt::format("[{}]", fmt::join(entries, ", "));
}

void Key::set_default_if_absent(Message& configuration) const {
  if (is_list()) return;  // a list without entries says the same aloud
  Message& parent = parent_in(configuration);
  const google::protobuf::Reflection& reflection = *parent.GetReflection();
  if (reflection.HasField(parent, &field())) return;
  switch (field().cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return reflection.SetInt64(&parent, &field(), field().default_value_int64());
    case FieldDescriptor::CPPTYPE_UINT64:
      return reflection.SetUInt64(&parent, &field(), field().default_value_uint64());
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return reflection.SetDouble(&parent, &field(), field().default_value_double());
    case FieldDescriptor::CPPTYPE_BOOL:
      return reflection.SetBool(&parent, &field(), field().default_value_bool());
    case FieldDescriptor::CPPTYPE_STRING:
      return reflection.SetString(&parent, &field(), field().default_value_string());
    case FieldDescriptor::CPPTYPE_ENUM:
      return reflection.SetEnum(&parent, &field(), field().default_value_enum());
    default:
      static_cast<void>(allowed());  // throws
  }
}

bool Key::assign(Message& parent, std::string_view text) const {
  const google::protobuf::Reflection& reflection = *parent.GetReflection();
  const auto set_number = [&](auto setter, const auto& number) {
    if (number) (reflection.*setter)(&parent, &field(), *number);
    return number.has_value();
  };
  using google::protobuf::Reflection;
  switch (field().cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT64:
      return set_number(&Reflection::SetInt64, number_of<std::int64_t>(text));
    case FieldDescriptor::CPPTYPE_UINT64:
      return set_number(&Reflection::SetUInt64, number_of<std::uint64_t>(text));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return set_number(&Reflection::SetDouble, number_of<double>(text));
    case FieldDescriptor::CPPTYPE_BOOL:
      return set_number(&Reflection::SetBool, truth_of(text));
    case FieldDescriptor::CPPTYPE_STRING:
      reflection.SetString(&parent, &field(), std::string(text));
      return true;
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field().enum_type()->FindValueByName(std::string(text));
      if (value != nullptr) reflection.SetEnum(&parent, &field(), value);
      return value != nullptr;
    }
    default:
      static_cast<void>(allowed());  // throws
  }
  return false;
}

void Key::set_list(Message& parent, std::string_view text) const {
  const google::protobuf::Reflection& reflection = *parent.GetReflection();
  const std::unique_ptr<Message> read(parent.New());
  const std::string place = "--set " + name();
  const bool bracketed = text.starts_with('[') || text.starts_with('{');
  if (bracketed) {
    parse_text_format(text, place, *read, field().name() + ": ");
  } else if (text.find_first_not_of(" \t") != std::string_view::npos) {
    parse_text_format(text, place, *reflection.AddMessage(read.get(), &field()));
  }
  reflection.ClearField(&parent, &field());
  parent.MergeFrom(*read);
}

void Key::set(Message& configuration, std::string_view text, const std::string& where) const {
  if (is_list()) return set_list(parent_in(configuration), text);
  if (assign(parent_in(configuration), text)) return;
  std::string hint;
  if (const EnumDescriptor* type = field().enum_type()) {
    const std::string nearest = nearest_name(text, names_of(*type));
    if (!nearest.empty()) hint = fmt::format("did you mean '{}'?", nearest);
  }
  throw Error(ErrorKind::usage, {.what = fmt::format("'{}' is no value of {}", text, name()),
                                 .why = fmt::format("which takes {}", allowed()),
                                 .hint = hint,
                                 .where = where});
}

std::vector<Key> all_keys() {
  std::vector<Key> keys;
  collect_keys(*config::Config::descriptor(), {}, keys);
  return keys;
}

Key key_of(std::string_view dotted_name, const std::string& where) {
  const auto refuse = [&](ErrorText text) -> Error {
    text.where = where;
    return Error(ErrorKind::usage, text);
  };
  const Descriptor* section = config::Config::descriptor();
  Path path;
  for (std::string_view rest = dotted_name; section != nullptr;) {
    const std::size_t dot = rest.find('.');
    const std::string name(rest.substr(0, dot));
    const FieldDescriptor* field = section->FindFieldByName(name);
    const std::string prefix = path.empty() ? "" : dotted(path) + ".";
    if (field == nullptr) throw refuse(unknown_key_in(*section, dotted(path), name, prefix));
    path.push_back(field);
    section = field->message_type();
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
    if (field->is_repeated()) {
      throw refuse(
          {.what = fmt::format("'{}' is a list, whose entries have no names", dotted(path)),
           .why = "it is set as a whole",
           .hint = fmt::format("as in {}=\"{}\"", dotted(path), outline_of(*section))});
    }
    if (section == nullptr) {
      throw refuse({.what = fmt::format("unknown key '{}'", dotted_name),
                    .why = fmt::format("'{}' is a single value", dotted(path)),
                    .hint = fmt::format("did you mean '{}'?", dotted(path))});
    }
  }
  if (section != nullptr && !path.back()->is_repeated()) {
    throw refuse({.what = fmt::format("'{}' is a section, not a key", dotted_name),
                  .hint = fmt::format("choose among '{}'",
                                      fmt::join(names_of(*section, dotted(path) + "."), "', '"))});
  }
  return Key(path);
}

ErrorText unknown_key(std::string_view key, const std::string& message_name) {
  const Descriptor& root = *config::Config::descriptor();
  const Descriptor* section = root.file()->pool()->FindMessageTypeByName(message_name);
  if (section == nullptr) section = &root;
  return unknown_key_in(*section, section_name(*section, root, {}), key, "");
}

ErrorText unknown_value(std::string_view value, const std::string& field_name) {
  for (const Key& key : all_keys()) {
    if (key.field().name() != field_name || key.field().enum_type() == nullptr) continue;
    const std::string nearest = nearest_name(value, names_of(*key.field().enum_type()));
    return {.what = fmt::format("'{}' is no value of {}", value, key.name()),
            .why = fmt::format("which takes {}", key.allowed()),
            .hint = nearest.empty() ? "" : fmt::format("did you mean '{}'?", nearest)};
  }
  return {.what = fmt::format("'{}' is no value of '{}'", value, field_name)};
}

}  // namespace longscan
