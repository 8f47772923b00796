// Checked NCCL calls: a failure becomes an Error with the call's text and NCCL's own words.
#pragma once

#include <source_location>

namespace longscan {

/// Throws io unless `status`, a ncclResult_t, is ncclSuccess. Used through NCCL_CHECK.
void check_nccl(int status, const char* call,
                std::source_location source = std::source_location::current());

}  // namespace longscan

#define NCCL_CHECK(call) ::longscan::check_nccl((call), #call)
