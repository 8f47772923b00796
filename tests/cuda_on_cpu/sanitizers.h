// Which sanitizer this file is compiled with.
#pragma once

#if defined(__SANITIZE_ADDRESS__)
#define LONGSCAN_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LONGSCAN_ADDRESS_SANITIZER 1
#endif
#endif

#if defined(LONGSCAN_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
