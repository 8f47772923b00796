// Finds accesses of two threads to one byte that nothing orders, of which one is a write.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "tests/cuda_on_cpu/race_hooks.h"

namespace longscan::cuda_on_cpu {

/// One a host thread. It keeps of every byte the last writer and the last two readers.
class RaceChecker {
 public:
  static RaceChecker& here();

  void begin_launch();
  void note(const void* address, std::size_t bytes, AccessKind kind, const void* code);
  std::string end_launch();

 private:
  // Three of these stand for every byte, so they are small: numbers are cut short, and code is
  // given by its distance from this class's.
  struct Access {
    std::uint32_t block = 0;  // 0: none
    std::int32_t code = 0;
    std::uint32_t barrier_epoch = 0;
    std::uint16_t warp_epoch = 0;
    std::uint16_t thread : 12 = 0;
    std::uint16_t kind : 4 = 0;
  };
  static_assert(sizeof(Access) == 16);
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
  std::uint32_t first_block_ = 1;  // of the launch: accesses from before it are ordered
  std::vector<Race> races_;
};

}  // namespace longscan::cuda_on_cpu
