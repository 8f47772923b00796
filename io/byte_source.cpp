// Pieces of a file, decompressed with zlib, whose end and faults gzread would not tell.
#include "io/byte_source.h"

#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>

#include "kernels/error.h"

namespace longscan {
namespace {

constexpr std::size_t kInputBytes = 128 * 1024;
constexpr std::size_t kOutputBytes = 256 * 1024;
constexpr char kMagic[2] = {'\x1f', '\x8b'};
constexpr int kGzipWindowBits = 15 + 16;  // the largest window; + 16 asks for gzip's frame

std::FILE* open_input(const std::string& path) {
  // A copy of the descriptor, so that closing it leaves standard input as it was.
  if (path == "-") return ::fdopen(::dup(STDIN_FILENO), "rb");
  return std::fopen(path.c_str(), "rb");
}

}  // namespace

/// Owns zlib's state.
class ByteSource::Inflater {
 public:
  Inflater() {
    if (inflateInit2(&stream, kGzipWindowBits) != Z_OK) throw std::bad_alloc();
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream); }

  z_stream stream{};
};

void ByteSource::CloseFile::operator()(std::FILE* file) const {
  std::fclose(file);
}

ByteSource::ByteSource(const std::string& path)
    : name_(path == "-" ? "standard input" : path), file_(open_input(path)), input_(kInputBytes) {
  if (file_ != nullptr) return;
  const int reason = errno;
  const bool missing = reason == ENOENT || reason == ENOTDIR;
  throw Error(missing ? ErrorKind::missing : ErrorKind::io,
              {.what = "the input cannot be opened", .why = std::strerror(reason), .where = name_});
}

ByteSource::~ByteSource() = default;
ByteSource::ByteSource(ByteSource&&) noexcept = default;
ByteSource& ByteSource::operator=(ByteSource&&) noexcept = default;

void ByteSource::refuse(const std::string& what, const std::string& why) const {
  throw Error(
      ErrorKind::data,
      {.what = what, .why = why, .hint = "get the file anew; gzip -t checks it", .where = name_});
}

bool ByteSource::fill() {
  if (input_begin_ < input_end_) return true;
  input_begin_ = 0;
  input_end_ = std::fread(input_.data(), 1, input_.size(), file_.get());
  if (input_end_ == 0 && std::ferror(file_.get()) != 0) {
    throw Error(ErrorKind::io,
                {.what = "reading failed", .why = std::strerror(errno), .where = name_});
  }
  return input_end_ > 0;
}

std::span<const char> ByteSource::read() {
  if (!started_) {
    started_ = true;
    // fread returns less than it is asked for only at the end: a single byte is the whole file.
    if (fill() && input_end_ >= 2 && std::memcmp(input_.data(), kMagic, 2) == 0) start_member();
  }
  if (inflater_ != nullptr) return read_compressed();
  if (!fill()) return {};
  const std::span<const char> piece(input_.data() + input_begin_, input_end_ - input_begin_);
  input_begin_ = input_end_;
  return piece;
}

void ByteSource::start_member() {
  if (inflater_ == nullptr) {
    output_.resize(kOutputBytes);
    inflater_ = std::make_unique<Inflater>();
  } else {
    inflateReset(&inflater_->stream);
  }
  inside_member_ = true;
}

std::span<const char> ByteSource::read_compressed() {
  z_stream& stream = inflater_->stream;
  stream.next_out = reinterpret_cast<Bytef*>(output_.data());
  stream.avail_out = static_cast<uInt>(output_.size());
  // More than one round when a member is empty or its header is longer than the input at hand.
  while (stream.avail_out == output_.size()) {
    const bool more_input = fill();
    if (!inside_member_) {
      if (!more_input) return {};
      if (input_[input_begin_] != kMagic[0]) {
        refuse("something follows the compressed data", "it is not another gzip member");
      }
      start_member();
    }
    stream.next_in = reinterpret_cast<Bytef*>(input_.data() + input_begin_);
    stream.avail_in = static_cast<uInt>(input_end_ - input_begin_);
    const int status = inflate(&stream, Z_NO_FLUSH);
    input_begin_ = input_end_ - stream.avail_in;
    if (status == Z_STREAM_END) {
      inside_member_ = false;
    } else if (status == Z_BUF_ERROR && !more_input) {
      refuse("the compressed data ends too early", "its last gzip member is incomplete");
    } else if (status != Z_OK && status != Z_BUF_ERROR) {
      refuse("the compressed data is damaged",
             stream.msg != nullptr ? stream.msg : "zlib refuses it");
    }
  }
  return {output_.data(), output_.size() - stream.avail_out};
}

}  // namespace longscan
