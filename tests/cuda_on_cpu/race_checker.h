// Finds accesses of two threads to one byte that nothing orders, of which one is a write.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace longscan::cuda_on_cpu {

enum class AccessKind : std::uint8_t { read, write, atomic_read, atomic_write };

/// One a host thread. It keeps of every byte the last writer and the last two readers.
class RaceChecker {
 public:
  static RaceChecker& here();

  void begin_launch();
  void note(const void* address, std::size_t bytes, AccessKind kind, const void* code);
  std::string end_launch();

 private:
  struct Access {
    std::uint64_t block = 0;  // 0: none
    const void* code = nullptr;
    std::uint32_t barrier_epoch = 0;
    std::uint32_t warp_epoch = 0;
    std::uint16_t thread = 0;
    AccessKind kind = AccessKind::read;
  };
  struct Byte {
    Access writer;
    std::array<Access, 2> readers;
  };
  static constexpr std::size_t kPageBytes = 1024;
  using Page = std::array<Byte, kPageBytes>;
  struct Race {
    const void* address;
    Access earlier;
    Access later;
  };

  Byte& byte_at(std::uintptr_t address);
  bool ordered(const Access& earlier, const Access& later, const void* address) const;
  void check(const Access& earlier, const Access& later, const void* address);

  std::unordered_map<std::uintptr_t, std::unique_ptr<Page>> pages_;
  std::uintptr_t last_page_number_ = ~std::uintptr_t{0};
  Page* last_page_ = nullptr;
  std::uint64_t first_block_ = 1;  // of the launch: accesses from before it are ordered
  std::vector<Race> races_;
};

}  // namespace longscan::cuda_on_cpu
