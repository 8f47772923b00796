// What `pack` and `inspect` say about a corpus.
#pragma once

#include "io/read_report.h"
#include "io/token_store.h"
#include "launch/session.h"

namespace longscan {

/// What the reader met: its counts (those that are not zero) and notices.
void say_reading(Session& session, const ReadReport& report);

/// Splits, tokens, records, unigram perplexity, vocabulary.
void say_contents(Session& session, const TokenStore& store);

}  // namespace longscan
