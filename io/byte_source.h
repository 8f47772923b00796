// The bytes of a file or of standard input, decompressed where they are gzip's, in pieces of
// bounded size.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace longscan {

class ByteSource {
 public:
  /// Opens a file; "-" is standard input. Whether it is compressed is told by its first two bytes,
  /// not by its name. Throws missing when there is no such file, io when it cannot be opened.
  explicit ByteSource(const std::string& path);
  ~ByteSource();
  ByteSource(ByteSource&&) noexcept;
  ByteSource& operator=(ByteSource&&) noexcept;

  /// What messages call it: the path, or "standard input".
  const std::string& name() const { return name_; }

  /// The next bytes, valid until the next call; none at the end. Throws io when reading fails, data
  /// when compressed bytes are damaged, end in the middle of a gzip member, or are followed by
  /// something that is no further member.
  std::span<const char> read();

 private:
  class Inflater;
  struct CloseFile {
    void operator()(std::FILE* file) const;
  };

  bool fill();  ///< makes sure of unread input; false at the end of the file
  std::span<const char> read_compressed();
  void start_member();
  [[noreturn]] void refuse(const std::string& what, const std::string& why) const;

  std::string name_;
  std::unique_ptr<std::FILE, CloseFile> file_;
  std::unique_ptr<Inflater> inflater_;  ///< there when the bytes are compressed
  bool started_ = false;
  bool inside_member_ = false;
  std::vector<char> input_;
  std::size_t input_begin_ = 0;
  std::size_t input_end_ = 0;
  std::vector<char> output_;
};

}  // namespace longscan
