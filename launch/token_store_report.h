// What `pack` and `inspect` say about a corpus.
#pragma once

#include <span>
#include <string>

#include "io/read_report.h"
#include "io/token_store.h"
#include "launch/session.h"

namespace longscan {

/// What the reader met: its counts (those that are not zero) and notices.
void say_reading(Session& session, const ReadReport& report);

/// The splits (in the order of kSplits), the vocabulary, the hash of both.
void say_contents(Session& session, std::span<const SplitSummary> splits,
                  const Vocabulary& vocabulary, const std::string& content_hash);

}  // namespace longscan
