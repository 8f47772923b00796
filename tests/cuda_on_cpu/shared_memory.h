// The shared memory of a block: every array its own piece of memory with guards around it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace longscan::cuda_on_cpu {

class SharedMemory {
 public:
  static constexpr std::size_t kStaticLimit = 48 * 1024;

  /// A launch asks for `bytes` of dynamic memory.
  void begin_launch(std::size_t bytes);
  /// What a block finds is NaN, not what the block before it left.
  void begin_block();
  /// Faults where a block has written beside an array.
  void end_block() const;

  /// The array that `key` stands for. It is aligned as the language says and no better.
  void* array(const void* key, std::size_t bytes, std::size_t alignment, const char* name);
  /// All of the dynamic memory.
  void* dynamic();
  /// A part of the dynamic memory.
  void* part(std::size_t offset, std::size_t bytes);

  bool holds(const void* address) const;

 private:
  struct Free {
    void operator()(std::byte* memory) const;
  };
  struct Piece {
    const void* key = nullptr;
    std::size_t offset = 0;
    std::size_t bytes = 0;
    const char* name = "";
    std::unique_ptr<std::byte, Free> memory{};
    std::byte* data = nullptr;
    std::size_t guard_before = 0;  // bytes that must stay as they are
    bool in_use = false;           // by this block
  };

  static Piece make_piece(std::size_t bytes, std::size_t alignment);
  static void fill(Piece& piece);
  static void check_guards(const Piece& piece);

  std::vector<Piece> arrays_;  // kept from launch to launch
  std::vector<Piece> parts_;
  Piece dynamic_;
  std::size_t dynamic_bytes_ = 0;
  std::size_t array_bytes_ = 0;
};

}  // namespace longscan::cuda_on_cpu
